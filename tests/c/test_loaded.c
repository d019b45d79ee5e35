/* Tests of src/loaded.c: what is loaded into this process, by SONAME. */
#include "reader_fixture.h"

#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <link.h>
#include <sys/auxv.h>

#include "../../src/list.h"
#include "../../src/loaded.h"

static char **list_all(void)
{
    char **list = mi_loaded_list();

    check_need(list != NULL, "memory");
    return list;
}

static int is_listed(const char *soname)
{
    char **list = list_all();
    int has = mi_list_has(list, soname);

    mi_list_clear(&list);
    return has;
}

static size_t count_listed(void)
{
    char **list = list_all();
    size_t count = mi_list_length(list);

    mi_list_clear(&list);
    return count;
}

static void *open_object(const struct fixture *f, const char *name,
                         const char *soname)
{
    struct fixture_tags tags = {.soname = soname};
    void *handle;

    fixture_write(fixture_path(f, name), &tags);
    handle = dlopen(fixture_path(f, name), RTLD_NOW);
    check_need(handle != NULL, name);
    return handle;
}

static void test_has_own_libc_found(void)
{
    CHECK(mi_loaded_has(LIBC_SO));
    CHECK(is_listed(LIBC_SO));
}

static void test_has_another_not_found(void)
{
    static const char *const names[] = {"libmi-nothing.so", "", "libc",
                                        LIBC_SO ".1", "/lib/" LIBC_SO};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_FOR(names[i], !mi_loaded_has(names[i]));
        CHECK_FOR(names[i], !is_listed(names[i]));
    }
}

/* All that is listed is found. */
static void test_list_agrees_with_has(void)
{
    char **list = list_all();

    CHECK(mi_list_length(list) >= 2); /* libc and the linker */
    for (size_t i = 0; list[i]; i++)
        CHECK_FOR(list[i], list[i][0] && mi_loaded_has(list[i]));
    mi_list_clear(&list);
}

/* By its SONAME, not by the name of its file; for as long as it is there. */
static void test_opened_later_found(void)
{
    const size_t before = count_listed();
    struct fixture f;
    void *handle;

    fixture_place(&f);
    CHECK(!mi_loaded_has("libmi-soname.so.1"));
    handle = open_object(&f, "libmi-file.so", "libmi-soname.so.1");
    CHECK(mi_loaded_has("libmi-soname.so.1"));
    CHECK(is_listed("libmi-soname.so.1"));
    CHECK(!mi_loaded_has("libmi-file.so") && !is_listed("libmi-file.so"));
    CHECK(count_listed() == before + 1);
    dlclose(handle);
    CHECK(!mi_loaded_has("libmi-soname.so.1"));
    CHECK(count_listed() == before);
    check_remove(f.scratch);
}

static void test_opened_without_soname_not_found(void)
{
    const size_t before = count_listed();
    struct fixture f;
    void *handle;

    fixture_place(&f);
    handle = open_object(&f, "libmi-file.so", NULL);
    CHECK(!mi_loaded_has("libmi-file.so") && !mi_loaded_has(""));
    CHECK(count_listed() == before);
    dlclose(handle);
    check_remove(f.scratch);
}

/* A SONAME may be a path, as that of an alias is. */
static void test_opened_with_path_found(void)
{
    struct fixture f;
    void *handle;

    fixture_place(&f);
    handle = open_object(&f, "libmi-file.so", "/mi-tree/liba.so");
    CHECK(mi_loaded_has("/mi-tree/liba.so") && is_listed("/mi-tree/liba.so"));
    CHECK(!mi_loaded_has("liba.so"));
    dlclose(handle);
    check_remove(f.scratch);
}

/* The kernel's object, whose addresses nobody has made real. */
static int find_vdso(struct dl_phdr_info *info, size_t size, void *name)
{
    const unsigned long start = getauxval(AT_SYSINFO_EHDR);

    (void)size;
    for (int i = 0; start && i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            start >= info->dlpi_addr + info->dlpi_phdr[i].p_vaddr &&
            start - info->dlpi_addr - info->dlpi_phdr[i].p_vaddr <
                info->dlpi_phdr[i].p_memsz) {
            snprintf(name, 100, "%s", info->dlpi_name);
            return 1;
        }
    return 0;
}

static void test_vdso_listed(void)
{
    char name[100];

    if (!dl_iterate_phdr(find_vdso, name) || !name[0]) {
        check_skipped(__func__, "there is none");
        return;
    }
    CHECK_FOR(name, mi_loaded_has(name) && is_listed(name));
}

int main(void)
{
    test_has_own_libc_found();
    test_has_another_not_found();
    test_list_agrees_with_has();
    test_opened_later_found();
    test_opened_without_soname_not_found();
    test_opened_with_path_found();
    test_vdso_listed();
    return check_report();
}
