/* Tests of src/needs.c: what an object's record says of each library, and that
 * the dynamic linker comes to the same end with and without it.
 */
#include "world.h"

#include "../../src/needs.h"

#define NEED                                                                  \
    {                                                                         \
        "libneed.so"                                                          \
    }
#define LIB(path)                                                             \
    {                                                                         \
        .name = path "/libneed.so"                                            \
    }

static const struct world worlds[] = {
    /* ---- one object, one rule ------------------------------------------- */
    {.about = "nothing needed",
     .objects = {{.name = "pkg/ext.so", .runpath = "@/idle", .needs = ""}}},
    {.about = "no search path",
     .objects = {{"pkg/ext.so", .needed = {"%"}, .needs = "s%"}}},
    {.about = "empty search path",
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = "",
                  .needs = "s%"}}},
    {.about = "loaded already",
     .objects = {{"pkg/ext.so", .needed = {"libc.so.6"}, .runpath = "@/idle",
                  .needs = "slibc.so.6"}}},
    {.about = "beside the object, RUNPATH",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "$ORIGIN",
                  .needs = "m@/pkg/libneed.so"},
                 LIB("pkg")}},
    {.about = "beside the object, RPATH, in braces",
     .objects = {{"pkg/ext.so", .needed = NEED, .rpath = "${ORIGIN}/../used",
                  .needs = "m@/used/libneed.so"},
                 LIB("used")}},
    {.about = "absolute RUNPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used",
                  .needs = "M@/used/libneed.so"},
                 LIB("used")}},
    {.about = "absolute RPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .rpath = "@/used",
                  .needs = "M@/used/libneed.so"},
                 LIB("used")}},
    {.about = "absolute RUNPATH, with a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used",
                  .needs = "M@/used/libneed.so"},
                 {"used/libneed.so", .soname = "libneed.so"}}},
    {.about = "absolute RUNPATH, with another SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used",
                  .needs = "M@/used/libneed.so"},
                 {"used/libneed.so", .soname = "libother.so"}}},
    {.about = "absolute RUNPATH with slashes",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED,
                  .runpath = "@//idle/.:@/used//",
                  .needs = "M@/used/libneed.so"},
                 LIB("used")}},
    {.about = "absolute RUNPATH through a parent",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/idle/../used",
                  .needs = "M@/idle/../used/libneed.so"},
                 LIB("used"),
                 {"idle/libidle.so"}}},
    {.about = "the system's, in vain on the tree",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "@/idle:@/absent:@/absent/below", .needs = "S%"},
                 {"idle/libidle.so"}}},
    {.about = "the system's, in vain, RPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"}, .rpath = "@/idle",
                  .needs = "S%"},
                 {"idle/libidle.so"}}},
    {.about = "the system's, in vain beside the object",
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "$ORIGIN:$ORIGIN/../absent", .needs = "s%"}}},
    {.about = "in vain, then beside the object",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libneed.so", "%"},
                  .runpath = "@/idle:$ORIGIN",
                  .needs = "M@/pkg/libneed.so S%"},
                 LIB("pkg"),
                 {"idle/libidle.so"}}},
    {.about = "beside the object, then absolute",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libneed.so", "%"},
                  .runpath = "$ORIGIN:@/used",
                  .needs = "m@/pkg/libneed.so S%"},
                 LIB("pkg"),
                 LIB("used")}},
    {.about = "first of two directories",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/one:@/two",
                  .needs = "M@/one/libneed.so"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "on the tree, named as the system's",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = "@/used",
                  .needs = "M@/used/%"},
                 {"used/%"}}},
    {.about = "the system's directory in the RUNPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "@/idle:/lib/x86_64-linux-gnu:/usr/lib:@/used",
                  .needs = "S%"},
                 {"idle/libidle.so"}}},
    {.about = "a file in the search path",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "@/file.so/below:@/file.so", .needs = "S%"},
                 {"file.so"}}},

    /* ---- links ---------------------------------------------------------- */
    {.about = "directory behind a link",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/to-used",
                  .needs = "M@/to-used/libneed.so"},
                 LIB("used")},
     .links = {{"used", "to-used"}}},
    {.about = "library behind a link",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/linked",
                  .needs = "M@/linked/libneed.so"},
                 {"used/libneed.so.1", .soname = "libneed.so.1"}},
     .links = {{"../used/libneed.so.1", "linked/libneed.so"}}},
    {.about = "link to nothing",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/dangling:@/used",
                  .needs = "M@/used/libneed.so"},
                 LIB("used")},
     .links = {{"nothing", "dangling/libneed.so"}}},
    {.about = "one file by two names",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so"},
                  .runpath = "@/used",
                  .needs = "M@/used/liba.so M@/used/libb.so"},
                 {"used/liba.so"}},
     .links = {{"liba.so", "used/libb.so"}}},
    {.about = "object behind a link",

     .path = "view/ext.so",
     .objects = {{"pkg/ext.so", .needed = NEED,
                  .runpath = "$ORIGIN/lib:@/idle"},
                 LIB("view/lib"),
                 LIB("pkg/lib")},
     .links = {{"../pkg/ext.so", "view/ext.so"}}},
    {.about = "$ORIGIN/.. of a directory behind a link",
     .outcome = WORLD_HELPED,
     .path = "link/ext.so",
     .objects = {{"deep/pkg/ext.so", .needed = NEED,
                  .runpath = "$ORIGIN/../used"},
                 LIB("deep/used"),
                 LIB("used")},
     .links = {{"deep/pkg", "link"}}},
    {.about = "$ORIGIN/.. behind a link, to the same directory",
     .path = "link/ext.so",
     .objects = {{"deep/pkg/ext.so", .needed = NEED,
                  .runpath = "$ORIGIN/../used"},
                 LIB("deep/used")},
     .links = {{"deep/pkg", "link"}, {"deep/used", "used"}}},
    {.about = "$ORIGIN/.. behind a link, to nothing",
     .outcome = WORLD_HELPED,
     .path = "link/ext.so",
     .objects = {{"deep/pkg/ext.so", .needed = NEED,
                  .runpath = "$ORIGIN/../used:@/two"},
                 LIB("used"),
                 LIB("two")},
     .links = {{"deep/pkg", "link"}}},

    /* ---- what only the linker knows ------------------------------------- */
    {.about = "working directory in a RUNPATH",
     .outcome = WORLD_GIVEN_UP,
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "@/idle:", .needs = "U%"},
                 {"used/%"}},
     .cwd = "@/used"},
    {.about = "not in the working directory",
     .outcome = WORLD_GIVEN_UP,
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = ":@/idle",
                  .needs = "U%"},
                 {"used/%"}},
     .cwd = "@/pkg"},
    {.about = "relative directory",
     .outcome = WORLD_GIVEN_UP,
     .objects = {{"pkg/ext.so", .needed = NEED, .rpath = "@/idle:used",
                  .needs = "Ulibneed.so"},
                 LIB("used")},
     .cwd = "@"},
    {.about = "found ahead of a relative directory",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used:relative",
                  .needs = "M@/used/libneed.so"},
                 LIB("used")},
     .cwd = "/"},
    {.about = "unknown, but loaded already",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libc.so.6", "%"},
                  .runpath = "@/idle", .needs = "slibc.so.6 S%"},
                 {"idle/libidle.so"}}},
    {.about = "loaded already, behind a relative directory",
     .objects = {{"pkg/ext.so", .needed = {"libc.so.6"},
                  .runpath = "relative:@/idle", .needs = "slibc.so.6"}}},
    {.about = "loaded already, another of that name on the tree",
     .objects = {{"pkg/ext.so", .needed = {"libc.so.6"}, .runpath = "@/used",
                  .needs = "slibc.so.6"},
                 {"used/libc.so.6"}}},
    {.about = "$ORIGIN in the middle",
     .outcome = WORLD_GIVEN_UP,
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = "@/idle$ORIGIN",
                  .needs = "U%"}}},

    /* ---- tokens --------------------------------------------------------- */
    {.about = "$LIB in vain",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"%"},
                  .runpath = "@/$LIB:@/idle/${LIB}", .needs = "S%"}}},
    {.about = "$LIB beside the object",
     .objects = {{"pkg/ext.so", .needed = NEED,
                  .runpath = "$ORIGIN/../$LIB:$ORIGIN",
                  .needs = "m@/pkg/libneed.so"},
                 LIB("pkg")}},
#if defined(__x86_64__) && defined(__GLIBC__)
    {.about = "in $LIB, on Debian",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/$LIB:@/used"},
                 LIB("used"),
                 LIB("lib/x86_64-linux-gnu"),
                 LIB("lib64")}},
    {.about = "in $PLATFORM, on some processors",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED,
                  .runpath = "@/$PLATFORM:@/used"},
                 LIB("used"),
                 LIB("haswell"),
                 LIB("x86_64"),
                 LIB("xeon_phi")}},
#endif

    /* ---- order ---------------------------------------------------------- */
    {.about = "RPATH before LD_LIBRARY_PATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/two",
     .objects = {{"pkg/ext.so", .needed = NEED, .rpath = "@/one",
                  .needs = "M@/one/libneed.so"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "LD_LIBRARY_PATH before RUNPATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/two",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/one",
                  .needs = "M@/two/libneed.so"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "LD_LIBRARY_PATH before $ORIGIN",
     .outcome = WORLD_HELPED,
     .library_path = "@/two",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "$ORIGIN",
                  .needs = "M@/two/libneed.so"},
                 LIB("pkg"),
                 LIB("two")}},
    {.about = "LD_LIBRARY_PATH alone, semicolons and doubled separators",
     .outcome = WORLD_HELPED,
     .library_path = "@/idle;@/one;@/two",
     .objects = {{"pkg/ext.so", .needed = {"libneed.so", "%"},
                  .needs = "M@/one/libneed.so S%"},
                 LIB("one"),
                 LIB("two"),
                 {"idle/libidle.so"}}},
    {.about = "an empty directory of the tree in LD_LIBRARY_PATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/idle:/usr/local/lib",
     .objects = {{"pkg/ext.so", .needed = {"%"}, .needs = "S%"},
                 {"idle/libidle.so"}}},
    {.about = "an empty entry of LD_LIBRARY_PATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/idle:",
     .cwd = "@/used",
     .objects = {{"pkg/ext.so", .needed = NEED, .needs = "M@/used/libneed.so"},
                 LIB("used"),
                 {"idle/libidle.so"}}},
    {.about = "a relative entry of LD_LIBRARY_PATH",
     .outcome = WORLD_GIVEN_UP,
     .library_path = "used",
     .cwd = "@",
     .objects = {{"pkg/ext.so", .needed = NEED, .needs = "Ulibneed.so"},
                 LIB("used")}},
    {.about = "the system's name found by LD_LIBRARY_PATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/used",
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = "/usr/lib",
                  .needs = "M@/used/%"},
                 {"used/%"}}},
    {.about = "RPATH beside a RUNPATH, of a library",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"},
                  .rpath = "$ORIGIN:@/one"},
                 {"pkg/libp.so", .needed = {"%"}, .runpath = "@/idle",
                  .needs = "S%"},
                 {"one/%"},
                 {"idle/libidle.so"}}},
    {.about = "RPATH inherited",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"},
                  .rpath = "$ORIGIN:@/one", .needs = "m@/pkg/libp.so"},
                 {"pkg/libp.so", .needed = {"%", "libneed.so"},
                  .needs = "M@/one/% m@/pkg/libneed.so"},
                 {"one/%"},
                 LIB("pkg")}},
    {.about = "RPATH inherited through a RUNPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"},
                  .rpath = "$ORIGIN:@/one"},
                 {"pkg/libp.so", .needed = {"libq.so"},
                  .runpath = "$ORIGIN:@/idle", .needs = "m@/pkg/libq.so"},
                 {"pkg/libq.so", .needed = {"%"}, .needs = "M@/one/%"},
                 {"one/%"},
                 {"idle/%"}}},
    {.about = "RUNPATH not inherited",
     .outcome = WORLD_IDLE,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"}, .runpath = "$ORIGIN"},
                 {"pkg/libp.so", .needed = {"%"}, .needs = "s%"},
                 {"pkg/%"}}},
    {.about = "own RPATH before the inherited",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"},
                  .rpath = "$ORIGIN:@/two"},
                 {"pkg/libp.so", .needed = NEED, .rpath = "@/one",
                  .needs = "M@/one/libneed.so"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "inherited RPATH before LD_LIBRARY_PATH",
     .outcome = WORLD_HELPED,
     .library_path = "@/two",
     .objects = {{"pkg/ext.so", .needed = {"libp.so"},
                  .rpath = "$ORIGIN:@/one"},
                 {"pkg/libp.so", .needed = NEED, .needs = "M@/one/libneed.so"},
                 LIB("one"),
                 LIB("two")}},

    /* ---- the node's own ------------------------------------------------- */
    {.about = "in a directory of the node's own",
     .outcome = WORLD_HELPED,
     .local = "@/own",
     .objects = {{"pkg/ext.so", .needed = {"libneed.so", "%"},
                  .runpath = "@/own:@/idle", .needs = "l@/own/libneed.so S%"},
                 {"own/libneed.so", .soname = "libneed.so"},
                 {"idle/libidle.so"}},
     .original = "own/libneed.so"},
    {.about = "in vain on the tree, then in the node's own",
     .outcome = WORLD_HELPED,
     .local = "@/own",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/idle:@/own",
                  .needs = "L@/own/libneed.so"},
                 {"own/libneed.so", .soname = "libneed.so"},
                 {"idle/libidle.so"}},
     .original = "own/libneed.so"},
    {.about = "only in the node's own",
     .local = "@/own",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/own",
                  .needs = "l@/own/libneed.so"},
                 LIB("own")},
     .original = "own/libneed.so"},
    {.about = "in vain in the node's own",
     .local = "@/own",
     .objects = {{"pkg/ext.so", .needed = {"%"}, .runpath = "@/own",
                  .needs = "s%"},
                 {"own/libidle.so"}}},

    /* ---- processors ----------------------------------------------------- */
    {.about = "variants for no processor of ours",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used",
                  .needs = "V@/used/libneed.so"},
                 LIB("used"),
                 LIB("used/glibc-hwcaps/mi-none")}},
    {.about = "variants for many processors",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used"},
                 LIB("used"),
                 LIB("used/glibc-hwcaps/x86-64-v2"),
                 LIB("used/glibc-hwcaps/x86-64-v3"),
                 LIB("used/glibc-hwcaps/power9"),
                 LIB("used/glibc-hwcaps/z14")}},
    {.about = "variants beside the object",
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "$ORIGIN",
                  .needs = "v@/pkg/libneed.so"},
                 LIB("pkg"),
                 LIB("pkg/glibc-hwcaps/x86-64-v2"),
                 LIB("pkg/glibc-hwcaps/x86-64-v3")}},
    {.about = "for some processors only",
     .outcome = WORLD_GIVEN_UP,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used:@/two",
                  .needs = "Ulibneed.so"},
                 LIB("used/glibc-hwcaps/x86-64-v2"),
                 LIB("two")}},
    {.about = "variants of something else",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = NEED, .runpath = "@/used",
                  .needs = "M@/used/libneed.so"},
                 LIB("used"),
                 {"used/glibc-hwcaps/x86-64-v2/libother.so"}}},

    /* ---- by path -------------------------------------------------------- */
    {.about = "by a path on the tree",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"@/used/libneed.so"},
                  .needs = "P@/used/libneed.so.mpiimport-alias"},
                 LIB("used")}},
    {.about = "by a path on the tree, with a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"@/used/libneed.so"},
                  .needs = "P@/used/libneed.so.mpiimport-alias"},
                 {"used/libneed.so", .soname = "libneed.so.1"}}},
    {.about = "by a path on the tree and by its name",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"@/used/libneed.so", "libneed.so"},
                  .runpath = "@/used"},
                 LIB("used")}},
    {.about = "by a path behind $ORIGIN",
     .objects = {{"pkg/ext.so", .needed = {"$ORIGIN/../used/libneed.so"},
                  .needs = "o@/used/libneed.so"},
                 LIB("used")}},
    {.about = "by a relative path",
     .outcome = WORLD_GIVEN_UP,
     .cwd = "@",
     .objects = {{"pkg/ext.so", .needed = {"./used/libneed.so"},
                  .needs = "U./used/libneed.so"},
                 LIB("used")}},
    {.about = "by a path of the node's own",
     .local = "@/own",
     .objects = {{"pkg/ext.so", .needed = {"@/own/libneed.so"}, .needs = ""},
                 LIB("own")},
     .original = "own/libneed.so"},

    /* ---- closures ------------------------------------------------------- */
    {.about = "relative in the first, absolute in the second",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = {"%"}, .runpath = "$ORIGIN/lib"},
                 {"pkg/q.so", .needed = {"%"}, .runpath = "@/idle"},
                 {"pkg/lib/%", .soname = "%"}}},
    {.about = "the same, without a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = {"%"}, .runpath = "$ORIGIN/lib"},
                 {"pkg/q.so", .needed = {"%"}, .runpath = "@/idle"},
                 {"pkg/lib/%"}}},
    {.about = "absolute in the first, relative in the second",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"q.so", "p.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = {"%"}, .runpath = "$ORIGIN/lib"},
                 {"pkg/q.so", .needed = {"%"}, .runpath = "@/idle"},
                 {"pkg/lib/%", .soname = "%"}}},
    {.about = "in a circle",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = {"q.so", "%"},
                  .runpath = "@/pkg:@/pkg/lib"},
                 {"pkg/q.so", .needed = {"p.so", "%", "ext.so"},
                  .runpath = "$ORIGIN:@/idle"},
                 {"pkg/lib/%", .soname = "%"}}},
    {.about = "two of one name, with a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = NEED, .runpath = "@/one"},
                 {"pkg/q.so", .needed = NEED, .runpath = "@/two"},
                 {"one/libneed.so", .soname = "libneed.so"},
                 {"two/libneed.so", .soname = "libneed.so"}}},
    {.about = "two of one name, without",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = NEED, .runpath = "@/one"},
                 {"pkg/q.so", .needed = NEED, .runpath = "@/two"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "two of one name, the second without a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = NEED, .runpath = "@/one"},
                 {"pkg/q.so", .needed = NEED, .runpath = "@/two"},
                 {"one/libneed.so", .soname = "libneed.so"},
                 LIB("two")}},
    {.about = "two of one name, the first without a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"},
                  .runpath = "$ORIGIN"},
                 {"pkg/p.so", .needed = NEED, .runpath = "@/one"},
                 {"pkg/q.so", .needed = NEED, .runpath = "@/two"},
                 LIB("one"),
                 {"two/libneed.so", .soname = "libneed.so"}}},
    {.about = "a SONAME that is another's name",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so", "libq.so"},
                  .runpath = "@/one"},
                 {"one/libp.so", .soname = "libq.so"},
                 {"one/libq.so"}}},

    /* ---- opened by themselves ------------------------------------------- */
    {.about = "names in an object that uses dlopen",
     .objects = {{"pkg/ext.so", .text = "libplugin.so.1",
                  .runpath = "$ORIGIN/lib", .needs = ""},
                 {"pkg/lib/libplugin.so.1", .needs = ""}}},
    {.about = "names beside an object that asks for its place",
     .objects = {{"pkg/ext.so", .text = "libplugin.so.1", .locates = 1,
                  .needs = ""},
                 {"pkg/libplugin.so.1", .needs = ""}}},
    {.about = "a plugin that is needed as well",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"}, .text = "libq.so",
                  .rpath = "$ORIGIN:@/used"},
                 {"pkg/libp.so", .needed = {"libq.so"}},
                 {"pkg/libq.so", .needed = NEED,
                  .needs = "M@/used/libneed.so"},
                 LIB("used")}},
    {.about = "a plugin that a library needs, whose RPATH comes first",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libp.so"}, .text = "libq.so",
                  .rpath = "$ORIGIN:@/two"},
                 {"pkg/libp.so", .needed = {"libq.so"}, .rpath = "@/one"},
                 {"pkg/libq.so", .needed = NEED, .needs = "M@/one/libneed.so"},
                 LIB("one"),
                 LIB("two")}},
    {.about = "a plugin that inherits an RPATH",
     .objects = {{"pkg/ext.so", .text = "libq.so", .rpath = "$ORIGIN:@/used"},
                 {"pkg/libq.so", .needed = NEED,
                  .needs = "M@/used/libneed.so"},
                 LIB("used")}},
    {.about = "a plugin that inherits no RUNPATH",
     .objects = {{"pkg/ext.so", .text = "libq.so",
                  .runpath = "$ORIGIN:@/used"},
                 {"pkg/libq.so", .needed = NEED, .needs = "slibneed.so"},
                 LIB("used")}},
};

/* ---- what an object opens by itself ------------------------------------- */

/* What the object's string table says that it uses. */
enum { NEITHER, OPENS, LOCATES };

static const struct mi_record *ask_with_text(struct fixture *f,
                                             const char *text, int uses,
                                             const char *runpath)
{
    static const char *const none[] = {NULL};
    struct fixture_tags tags = {.text = text, .runpath = runpath};
    struct world_object object = {.name = "pkg/ext.so",
                                  .text = text,
                                  .runpath = runpath,
                                  .locates = uses == LOCATES};

    fixture_make(f, 8 * MIB, 1, 0, 0);
    world_parents(fixture_path(f, "pkg/lib/x"));
    fixture_object(fixture_path(f, "pkg/libplug.so"), none, NULL);
    fixture_object(fixture_path(f, "pkg/lib/libplug.so"), none, NULL);
    fixture_object(fixture_path(f, "pkg/libplug.so.1"), none, NULL);
    if (uses != NEITHER)
        world_write(f, &object);
    else
        fixture_write(fixture_path(f, "pkg/ext.so"), &tags);
    return fixture_ask(f, MI_MIRROR, fixture_path(f, "pkg/ext.so"));
}

static void expect_plugins(const char *text, int uses, const char *runpath,
                           int beside, int below)
{
    const struct mi_record *record;
    struct fixture f;

    record = ask_with_text(&f, text, uses, runpath);
    CHECK_FOR(text, record && record->kind == MI_KIND_MIRROR);
    CHECK_FOR(text, record && !mi_record_need(record, NULL));
    CHECK_FOR(text,
              !fixture_find(&f, MI_MIRROR,
                            fixture_path(&f, "pkg/libplug.so")) == !beside);
    CHECK_FOR(text,
              !fixture_find(&f, MI_MIRROR,
                            fixture_path(&f, "pkg/lib/libplug.so")) == !below);
    CHECK_FOR(text, !fixture_find(&f, MI_MIRROR,
                                  fixture_path(&f, "pkg/libplug.so.1")));
    CHECK_FOR(text, atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_opened_named_siblings_mirrored(void)
{
    expect_plugins("libplug.so", LOCATES, NULL, 1, 0);
    expect_plugins("libplug.so", LOCATES, "$ORIGIN/lib", 1, 1);
    expect_plugins("xlibplug.so", LOCATES, "$ORIGIN/lib", 0, 0);
    expect_plugins("libplug.sox", LOCATES, "$ORIGIN/lib", 0, 0);
    expect_plugins("libplug.so.2", LOCATES, "$ORIGIN/lib", 0, 0);
}

/* Who does not know its own place looks where its search path leads. */
static void test_opened_without_place_search_path_only(void)
{
    expect_plugins("libplug.so", OPENS, NULL, 0, 0);
    expect_plugins("libplug.so", OPENS, "$ORIGIN/lib", 0, 1);
    expect_plugins("libplug.so", OPENS, "$ORIGIN:$ORIGIN/lib", 1, 1);
    expect_plugins("libplug.so", OPENS, "/mi-absolute", 0, 0);
    expect_plugins("libplug.so", NEITHER, "$ORIGIN/lib", 0, 0);
}

/* A record for each directory where it may look. */
static void expect_directories(int uses, const char *runpath, int beside,
                               int below)
{
    static const char *const names[] = {"pkg/", "pkg/lib/"};
    const int expected[] = {beside, below};
    struct fixture f;

    ask_with_text(&f, "libplug.so", uses, runpath);
    for (int i = 0; i < 2; i++)
        CHECK_FOR(names[i],
                  !fixture_find(&f, MI_MIRROR, fixture_path(&f, names[i])) ==
                      !expected[i]);
    fixture_clear(&f);
}

static void test_opened_directories_recorded(void)
{
    expect_directories(LOCATES, NULL, 1, 0);
    expect_directories(LOCATES, "$ORIGIN/lib:$ORIGIN/absent", 1, 1);
    expect_directories(OPENS, "$ORIGIN/lib", 0, 1);
    expect_directories(OPENS, "$ORIGIN", 1, 0);
    expect_directories(OPENS, NULL, 0, 0);
    expect_directories(NEITHER, "$ORIGIN/lib", 0, 0);
}

/* ---- errors ------------------------------------------------------------- */

static int list_fails(void *arg, const char *directory,
                      const struct mi_record **list, struct mi_error *err)
{
    (void)directory;
    (void)list;
    return *(int *)arg ? mi_fail(err, MI_ERRNO, EIO, "no list") : 0;
}

static int add_fails(void *arg, const char *path, const char *inherits,
                     struct mi_error *err)
{
    (void)arg;
    (void)path;
    (void)inherits;
    return mi_fail(err, MI_ERRNO, ENOMEM, "no room");
}

static void test_write_list_not_there(void)
{
    static char program[] = "", library_path[] = "";
    struct mi_search search = {.program = program,
                               .library_path = library_path};
    const char *needed[] = {"libneed.so"};
    struct mi_elf elf = {
        .needed_count = 1, .needed = needed, .runpath = "/mi-tree"};
    struct mi_needs_object object = {
        .path = "/mi-tree/ext.so", .inherited = "", .elf = &elf};
    int fail = 0;
    struct mi_needs_config config = {
        .search = &search, .list = list_fails, .add = add_fails, .arg = &fail};
    struct mi_error err;
    struct mi_text out = {.size = 0};

    /* The store is full: nobody knows any more. */
    CHECK(mi_needs_write(&config, &object, &out, &err) == 0);
    CHECK(out.size == 12 && memcmp(out.bytes, "Ulibneed.so", 12) == 0);
    fail = 1;
    mi_error_clear(&err);
    CHECK(mi_needs_write(&config, &object, &out, &err) == -1);
    CHECK(err.code == EIO);
    CHECK(mi_needs_write_one(&config, &object, "libx.so", &out, &err) == -1);
    elf.runpath = NULL;
    needed[0] = "$ORIGIN/libneed.so";
    CHECK(mi_needs_write(&config, &object, &out, &err) == -1);
    CHECK(err.code == ENOMEM);
    mi_text_clear(&out);
}

int main(int argc, char **argv)
{
    if (argc > 4)
        return world_child(worlds, argv);
    if (world_choose())
        for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
            world_test(worlds, (int)i);
    else
        check_skipped("worlds", "no library that could be opened");
    test_opened_named_siblings_mirrored();
    test_opened_without_place_search_path_only();
    test_opened_directories_recorded();
    test_write_list_not_there();
    return check_report();
}
