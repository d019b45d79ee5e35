#include "closure.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "elf.h"
#include "stub.h"

/* What an object answers to by name lies beside it, under its name and: */
#define ALIAS ".mpiimport-alias"

/* What an object may open itself. */
struct mi_opened {
    struct mi_opened *next;
    char *inherits;
    char path[];
};

/* ---- items -------------------------------------------------------------- */

static void item_free(struct mi_item *item)
{
    if (!item)
        return;
    if (item->bytes)
        munmap(item->bytes, item->size);
    free(item->path);
    free(item->place);
    free(item->inherited);
    free(item->image);
    free(item->link);
    free(item->text);
    free(item->needs);
    free(item->soname);
    free(item);
}

static void opened_free(struct mi_opened *opened)
{
    free(opened->inherits);
    free(opened);
}

void mi_closure_clear(struct mi_closure *closure)
{
    struct mi_opened *opened;

    while ((opened = closure->opened) != NULL) {
        closure->opened = opened->next;
        opened_free(opened);
    }
    for (size_t i = 0; i < closure->count; i++)
        item_free(closure->list[i]);
    free(closure->list);
}

static struct mi_item *closure_find(const struct mi_closure *closure,
                                    const char *path)
{
    for (size_t i = 0; i < closure->count; i++)
        if (strcmp(closure->list[i]->path, path) == 0)
            return closure->list[i];
    return NULL;
}

static struct mi_item *item_new(const char *path, const char *inherited)
{
    struct mi_item *item = calloc(1, sizeof(*item));

    if (!item)
        return NULL;
    item->path = strdup(path);
    /* Only the kernel knows where ".." leads behind a symbolic link. */
    item->place = strstr(path, "/../") ? realpath(path, NULL) : NULL;
    if (!item->place)
        item->place = strdup(path);
    item->inherited = strdup(inherited);
    if (item->path && item->place && item->inherited)
        return item;
    item_free(item);
    return NULL;
}

struct mi_item *mi_closure_add(struct mi_closure *closure, const char *path,
                               const char *inherited)
{
    size_t room = closure->room ? closure->room * 2 : 8;
    struct mi_item *item = closure_find(closure, path), **bigger;

    if (item)
        return item;
    if (closure->count == closure->room) {
        bigger = realloc(closure->list, room * sizeof(struct mi_item *));
        if (!bigger)
            return NULL;
        closure->list = bigger;
        closure->room = room;
    }
    item = item_new(path, inherited);
    if (item)
        closure->list[closure->count++] = item;
    return item;
}

static int on_list(void *arg, const char *directory,
                   const struct mi_record **list, struct mi_error *err)
{
    const struct mi_closure *closure = arg;

    return closure->look(closure->arg, directory, list, err);
}

static int on_add(void *arg, const char *path, const char *inherits,
                  struct mi_error *err)
{
    return mi_closure_add(arg, path, inherits) ? 0
                                               : mi_fail_errno(err, "mirror");
}

static int on_open(void *arg, const char *path, const char *inherits,
                   struct mi_error *err)
{
    struct mi_closure *closure = arg;
    struct mi_opened *opened = malloc(sizeof(*opened) + strlen(path) + 1);

    if (!opened || !(opened->inherits = strdup(inherits))) {
        free(opened);
        return mi_fail_errno(err, "mirror");
    }
    strcpy(opened->path, path);
    opened->next = closure->opened;
    closure->opened = opened;
    return 0;
}

int mi_closure_add_opened(struct mi_closure *closure)
{
    struct mi_opened *opened = closure->opened;

    if (!opened)
        return 0;
    closure->opened = opened->next;
    closure->optional = 1;
    mi_closure_add(closure, opened->path,
                   opened->inherits); /* or do without */
    opened_free(opened);
    return 1;
}

/* An object of ours named 'path', which needs the genuine one beside it. */
static int make_alias(const char *path, const struct mi_item *genuine,
                      struct mi_item *alias, struct mi_error *err)
{
    struct mi_stub stub = {0};
    char needed[PATH_MAX + 10];
    int rc;

    snprintf(needed, sizeof(needed), "$ORIGIN/%s",
             strrchr(genuine->place, '/') + 1);
    rc = mi_stub_name(&stub, path, err);
    if (rc == 0)
        rc = mi_stub_need(&stub, needed, err);
    if (rc == 0)
        rc = mi_stub_image(&stub, &alias->image, &alias->image_size, err);
    mi_stub_clear(&stub);
    return rc;
}

static int on_alias(void *arg, const char *path, const char *inherits,
                    const char **name, struct mi_error *err)
{
    char text[PATH_MAX + sizeof(ALIAS)];
    struct mi_item *genuine, *alias;
    char *place;

    snprintf(text, sizeof(text), "%s" ALIAS, path);
    if (strlen(text) > MI_PATH)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", path);
    genuine = mi_closure_add(arg, path, inherits);
    alias = genuine ? mi_closure_add(arg, text, "") : NULL;
    if (!alias)
        return mi_fail_errno(err, "mirror");
    *name = alias->path;
    if (alias->image)
        return 0;
    if (asprintf(&place, "%s" ALIAS, genuine->place) < 0)
        return mi_fail_errno(err, "mirror");
    free(alias->place);
    alias->place = place;
    return make_alias(path, genuine, alias, err);
}

/* The item of a directory, to whose libraries links are wanted. */
static int on_link(void *arg, const char *directory, struct mi_error *err)
{
    char path[PATH_MAX + 1];

    snprintf(path, sizeof(path), "%s/", directory);
    return strlen(path) > MI_PATH ? 0 : on_add(arg, path, "", err);
}

/* ---- what an object needs ----------------------------------------------- */

static struct mi_needs_config needs_config(struct mi_closure *closure)
{
    return (struct mi_needs_config){.search = closure->search,
                                    .share = closure->share,
                                    .local = closure->local,
                                    .list = on_list,
                                    .add = on_add,
                                    .add_alias = on_alias,
                                    .open = on_open,
                                    .link = on_link,
                                    .arg = closure};
}

/* Have the item's needs be that text, if 'rc' is 0. */
static int take_needs(struct mi_item *item, struct mi_text *text, int rc,
                      struct mi_error *err)
{
    if (rc != 0) {
        mi_text_clear(text);
        return rc;
    }
    item->needs = mi_text_take(text, &item->needs_size);
    return item->needs ? 0 : mi_fail_errno(err, "mirror");
}

int mi_closure_describe(struct mi_closure *closure, struct mi_item *item,
                        const void *image, size_t size, struct mi_error *err)
{
    struct mi_needs_config config = needs_config(closure);
    struct mi_elf elf = {0};
    struct mi_needs_object object = {.path = item->place,
                                     .inherited = item->inherited,
                                     .elf = &elf,
                                     .image = image,
                                     .size = size};
    struct mi_text out = {.size = 0};
    int rc;

    if (mi_elf_parse(image, size, &elf, err) != 0)
        return -1;
    item->soname = strdup(elf.soname ? elf.soname : "");
    if (!item->soname) {
        rc = mi_fail_errno(err, "mirror");
    } else if (item->image) { /* an alias */
        mi_text_format(&out, "%c%.*s%c", MI_NEED_ORIGIN,
                       (int)(strlen(item->path) - strlen(ALIAS)), item->path,
                       '\0');
        rc = 0;
    } else {
        rc = mi_needs_write(&config, &object, &out, err);
    }
    mi_elf_clear(&elf);
    return take_needs(item, &out, rc, err);
}

int mi_closure_find(struct mi_closure *closure, const char *caller,
                    const struct mi_elf *elf, const char *name,
                    struct mi_text *out, struct mi_error *err)
{
    struct mi_needs_config config = needs_config(closure);
    struct mi_needs_object object = {
        .path = caller, .inherited = "", .elf = elf};

    return mi_needs_write_one(&config, &object, name, out, err);
}

int mi_item_write(struct mi_item *item, struct mi_error *err)
{
    struct mi_text out = {.size = 0};

    if (strcmp(item->path, item->place) != 0)
        mi_text_add(&out, item->place);
    mi_text_format(&out, "%c%s%c%s%c", '\0', item->soname, '\0',
                   item->link ? item->link : "", '\0');
    mi_text_put(&out, item->needs, item->needs_size);
    item->text = mi_text_take(&out, &item->entry.size);
    if (!item->text)
        return mi_fail_errno(err, "mirror");
    item->entry.payload = item->text;
    return 0;
}

int mi_item_is_directory(const struct mi_item *item)
{
    return item->path[strlen(item->path) - 1] == '/';
}

int mi_closure_describe_directory(struct mi_closure *closure,
                                  struct mi_item *item, struct mi_error *err)
{
    char directory[PATH_MAX], type;
    const struct mi_record *list = NULL;
    const char *name;
    struct mi_text out = {.size = 0};
    int rc;

    item->soname = strdup("");
    if (!item->soname)
        return mi_fail_errno(err, "mirror");
    snprintf(directory, sizeof(directory), "%.*s", (int)strlen(item->path) - 1,
             item->path);
    rc = on_list(closure, directory, &list, err);
    for (uint32_t i = 0;
         rc == 1 && (name = mi_entries_name(list, i, &type)) != NULL; i++)
        if (type == 'f' && strstr(name, ".so"))
            mi_text_format(&out, "%c%s%c", MI_NEED_LINK, name, '\0');
    return take_needs(item, &out, rc < 0 ? -1 : 0, err);
}
