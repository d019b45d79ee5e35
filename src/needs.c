#include "needs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "list.h"
#include "prefixes.h"

#define VARIANTS "glibc-hwcaps"

/* The search for one library. */
struct look {
    const char *name;
    const char *inherits; /* by what is found */
    char kind;            /* enum mi_need, in small */
    int searched;         /* directories of the tree, in vain */
    char path[PATH_MAX];
};

/* "DIRECTORY/NAME" into 'path' (PATH_MAX): 1, or 0 if it is too long. */
static int join(const char *directory, size_t length, const char *name,
                char *path)
{
    size_t size = strlen(name);

    while (length > 1 && directory[length - 1] == '/')
        length--;
    if (length + size + 2 > PATH_MAX)
        return 0;
    memcpy(path, directory, length);
    path[length] = '/';
    memcpy(path + length + 1, name, size + 1);
    return 1;
}

static int is_file(const struct mi_record *list, const char *name)
{
    return mi_entries_type(list, name) == 'f';
}

/* Is it known what is in the directory: something, or nothing since there is
 * no such directory?
 */
static int is_told(const struct mi_record *list)
{
    return list->kind == MI_KIND_LIST || list->code == ENOENT ||
           list->code == ENOTDIR;
}

/* Versions of the library for some processors: the linker of each node takes
 * its own choice.  1 if there are any.
 */
static int add_variants(const struct mi_needs_config *config,
                        const char *directory, const struct look *look,
                        struct mi_error *err)
{
    char variants[PATH_MAX], one[PATH_MAX], path[PATH_MAX], type;
    const struct mi_record *list, *inner;
    const char *name;
    int rc, found = 0;

    if (!join(directory, strlen(directory), VARIANTS, variants))
        return 0;
    rc = config->list(config->arg, variants, &list, err);
    for (uint32_t i = 0;
         rc == 1 && (name = mi_entries_name(list, i, &type)) != NULL; i++) {
        if (type != 'd' || !join(variants, strlen(variants), name, one))
            continue;
        rc = config->list(config->arg, one, &inner, err);
        if (rc != 1 || !is_file(inner, look->name) ||
            !join(one, strlen(one), look->name, path))
            continue;
        found = 1;
        if (config->add(config->arg, path, look->inherits, err) != 0)
            rc = -1;
    }
    return rc < 0 ? -1 : found;
}

/* Look in a directory of the tree: 1 if the search is over, 0 or -1. */
static int look_on_tree(const struct mi_needs_config *config,
                        const char *directory, int absolute, struct look *look,
                        struct mi_error *err)
{
    const struct mi_record *list;
    int rc = config->list(config->arg, directory, &list, err), variants = 0;

    if (rc < 0)
        return -1;
    if (rc == 0 || !is_told(list)) {
        look->kind = MI_NEED_UNKNOWN;
        return 1;
    }
    if (mi_entries_type(list, VARIANTS) == 'd')
        variants = add_variants(config, directory, look, err);
    if (variants < 0)
        return -1;
    look->searched |= absolute;
    if (!is_file(list, look->name)) {
        if (variants) /* there for some processors only */
            look->kind = MI_NEED_UNKNOWN;
        return variants;
    }
    if (!join(directory, strlen(directory), look->name, look->path))
        return 0;
    look->kind = variants ? MI_NEED_VARIANT : MI_NEED_MIRROR;
    return config->add(config->arg, look->path, look->inherits, err) == 0 ? 1
                                                                          : -1;
}

/* Look in one entry of a list. */
static int look_in(const struct mi_needs_config *config, const char *entry,
                   size_t length, struct look *look, struct mi_error *err)
{
    char directory[PATH_MAX];
    int absolute = entry[0] == '=', system;

    entry += absolute;
    length -= (size_t)absolute;
    if (entry[0] != '/' || length >= sizeof(directory)) {
        look->kind = MI_NEED_UNKNOWN;
        return 1;
    }
    memcpy(directory, entry, length);
    directory[length] = '\0';
    system = absolute && mi_search_default(directory);
    if (!absolute || (!system && mi_prefixes_shared(config->share,
                                                    config->local, directory)))
        return look_on_tree(config, directory, absolute, look, err);
    if (!join(directory, length, look->name, look->path) ||
        access(look->path, F_OK) != 0)
        return 0;
    look->kind = system ? MI_NEED_SYSTEM : MI_NEED_LOCAL;
    return 1;
}

static void put(struct mi_text *out, char kind, int help, const char *text)
{
    kind = (char)(help ? kind & ~0x20 : kind);
    mi_text_put(out, &kind, 1);
    mi_text_put(out, text, strlen(text) + 1);
}

/* A library that is needed by a path. */
static int write_path(const struct mi_needs_config *config,
                      const struct mi_needs_object *object,
                      const char *inherits, const char *name,
                      struct mi_text *out, struct mi_error *err)
{
    char directory[PATH_MAX], path[PATH_MAX], parent[PATH_MAX];
    const struct mi_record *list;
    const char *alias;
    int rc;

    mi_search_directory(object->path, directory);
    if (mi_elf_origin(name, strlen(name), directory, path, sizeof(path)) ==
        1) {
        put(out, MI_NEED_ORIGIN, 0, path);
        return config->add(config->arg, path, inherits, err);
    }
    if (name[0] != '/' || strchr(name, '$') || strlen(name) >= PATH_MAX) {
        put(out, MI_NEED_UNKNOWN, 1, name);
        return 0;
    }
    mi_search_directory(name, parent);
    if (mi_search_default(parent) ||
        !mi_prefixes_shared(config->share, config->local, name))
        return 0; /* the linker opens it where it is */
    rc = config->list(config->arg, parent, &list, err);
    if (rc < 0)
        return -1;
    if (rc == 0 || !is_told(list)) {
        put(out, MI_NEED_UNKNOWN, 1, name);
        return 0;
    }
    if (!is_file(list, strrchr(name, '/') + 1))
        return 0; /* the linker will say so */
    if (config->add_alias(config->arg, name, inherits, &alias, err) != 0)
        return -1;
    put(out, MI_NEED_PATH, 1, alias);
    return 0;
}

/* A library that is needed by its name, from one of the directories 'list'. */
static int write_name(const struct mi_needs_config *config, const char *list,
                      const char *inherits, const char *name,
                      struct mi_text *out, struct mi_error *err)
{
    struct look look = {
        .name = name, .inherits = inherits, .kind = MI_NEED_SYSTEM};
    const char *entry;
    size_t length;
    int rc = 0, named;

    if (config->search->loaded && mi_list_has(config->search->loaded, name))
        list = NULL; /* the linker takes that */
    while (rc == 0 && (entry = mi_elf_path_next(&list, &length)) != NULL)
        rc = look_in(config, entry, length, &look, err);
    if (rc < 0)
        return -1;
    named = look.kind == MI_NEED_SYSTEM || look.kind == MI_NEED_UNKNOWN;
    put(out, look.kind, look.searched || look.kind == MI_NEED_UNKNOWN,
        named ? name : look.path);
    return 0;
}

/* Where the linker looks for what an object needs. */
struct lists {
    char *all;
    char *handed; /* to what it needs: an RPATH, unlike a RUNPATH, is */
};

static int make_lists(const struct mi_needs_config *config,
                      const struct mi_needs_object *object,
                      struct lists *lists, struct mi_error *err)
{
    struct mi_search *search = config->search;
    const struct mi_elf *elf = object->elf;
    const char *const inherited[] = {object->inherited, NULL};
    const char *const rest[] = {object->inherited, search->program,
                                search->library_path, NULL};
    const char *const none[] = {NULL};
    char origin[PATH_MAX], *own;

    mi_search_directory(object->path, origin);
    lists->handed = mi_search_list(search, elf->runpath ? NULL : elf->rpath,
                                   origin, 0, inherited);
    if (!elf->runpath) {
        lists->all = mi_search_list(search, elf->rpath, origin, 0, rest);
    } else {
        own = mi_search_list(search, elf->runpath, origin, 0, none);
        lists->all = NULL;
        if (own &&
            asprintf(&lists->all, "%s%s", search->library_path, own) < 0)
            lists->all = NULL;
        free(own);
    }
    return lists->all && lists->handed ? 0 : mi_fail_errno(err, "mirror");
}

static void clear_lists(struct lists *lists)
{
    free(lists->all);
    free(lists->handed);
}

/* Add the libraries of 'directory' whose names are written in the object. */
static int add_named(const struct mi_needs_config *config,
                     const struct mi_needs_object *object,
                     const char *directory, size_t length,
                     const char *inherits, struct mi_error *err)
{
    char place[PATH_MAX], path[PATH_MAX];
    const struct mi_record *list;
    const char *name;
    size_t cursor = 0;
    int rc;

    if (length >= sizeof(place))
        return 0;
    memcpy(place, directory, length);
    place[length] = '\0';
    rc = config->list(config->arg, place, &list, err);
    if (rc != 1)
        return rc;
    if (config->link(config->arg, place, err) != 0)
        return -1;
    while ((name = mi_elf_name_next(object->image, object->size, &cursor)) !=
           NULL)
        if (is_file(list, name) && join(place, length, name, path) &&
            config->open(config->arg, path, inherits, err) != 0)
            return -1;
    return 0;
}

/* What an object opens by itself: beside itself (which it learns by
 * dladdr(3)), or where its search path leads in the mirror.
 */
static int add_opened(const struct mi_needs_config *config,
                      const struct mi_needs_object *object,
                      const struct lists *lists, struct mi_error *err)
{
    const char *list = lists->all;
    char directory[PATH_MAX];
    const char *entry;
    size_t length;

    if (!mi_elf_opens(object->elf))
        return 0;
    mi_search_directory(object->path, directory);
    if (mi_elf_locates(object->elf) &&
        add_named(config, object, directory, strlen(directory), lists->handed,
                  err) != 0)
        return -1;
    while ((entry = mi_elf_path_next(&list, &length)) != NULL)
        if (entry[0] == '/' &&
            add_named(config, object, entry, length, lists->handed, err) != 0)
            return -1;
    return 0;
}

int mi_needs_write_one(const struct mi_needs_config *config,
                       const struct mi_needs_object *object, const char *name,
                       struct mi_text *out, struct mi_error *err)
{
    struct lists lists = {0};
    int rc = make_lists(config, object, &lists, err);

    if (rc == 0)
        rc = write_name(config, lists.all, lists.handed, name, out, err);
    clear_lists(&lists);
    return rc;
}

int mi_needs_write(const struct mi_needs_config *config,
                   const struct mi_needs_object *object, struct mi_text *out,
                   struct mi_error *err)
{
    const struct mi_elf *elf = object->elf;
    struct lists lists = {0};
    int rc = make_lists(config, object, &lists, err);

    for (size_t i = 0; rc == 0 && i < elf->needed_count; i++)
        rc = strchr(elf->needed[i], '/')
                 ? write_path(config, object, lists.handed, elf->needed[i],
                              out, err)
                 : write_name(config, lists.all, lists.handed, elf->needed[i],
                              out, err);
    if (rc == 0)
        rc = add_opened(config, object, &lists, err);
    clear_lists(&lists);
    return rc;
}
