#include "prefixes.h"

#include <stdlib.h>
#include <string.h>

#include "list.h"
#include "usage.h"

/* A path and where it was given. */
struct piece {
    const char *path;
    size_t size;
    const char *origin;
};

/* For a message. */
static int width(const struct piece *piece)
{
    return piece->size < MI_USAGE_WIDTH ? (int)piece->size : MI_USAGE_WIDTH;
}

static int check_piece(const struct piece *piece, struct mi_error *err)
{
    const char *path = piece->path;
    size_t size;

    if (path[0] != '/')
        return mi_usage_refuse(
            err, "%s takes absolute paths; '%.*s' is a relative one",
            piece->origin, width(piece), path);
    for (; path < piece->path + piece->size; path += size + 1) {
        size = strcspn(path, "/:");
        if (size == 2 && memcmp(path, "..", 2) == 0)
            return mi_usage_refuse(err,
                                   "%s takes paths without '..', not '%.*s'",
                                   piece->origin, width(piece), piece->path);
    }
    return 0;
}

/* The path without doubled slashes and dots; NULL without memory. */
static char *normal(const struct piece *piece)
{
    char *text = malloc(piece->size + 2), *end = text;
    const char *path = piece->path;
    size_t size;

    if (!text)
        return NULL;
    for (; path < piece->path + piece->size; path += size + 1) {
        size = strcspn(path, "/:");
        if (size == 0 || (size == 1 && *path == '.'))
            continue;
        *end++ = '/';
        memcpy(end, path, size);
        end += size;
    }
    if (end == text)
        *end++ = '/';
    *end = '\0';
    return text;
}

static int add(char ***list, const struct piece *piece, struct mi_error *err)
{
    char *one[2] = {NULL, NULL};

    if (check_piece(piece, err) != 0)
        return -1;
    one[0] = normal(piece);
    if (!one[0])
        return mi_usage_no_memory(err);
    if (!mi_list_has(*list, one[0]) && mi_list_move(list, one) != 0) {
        free(one[0]);
        return mi_usage_no_memory(err);
    }
    free(one[0]);
    return 0;
}

int mi_prefixes_add(char ***list, const char *paths, const char *origin,
                    struct mi_error *err)
{
    struct piece piece = {.path = paths, .origin = origin};

    for (;; piece.path += piece.size + 1) {
        piece.size = strcspn(piece.path, ":");
        if (piece.size && add(list, &piece, err) != 0)
            return -1;
        if (!piece.path[piece.size])
            return 0;
    }
}

/* Length of the longest prefix of 'path' in the list. */
static size_t longest_prefix(char *const *list, const char *path)
{
    size_t best = 0;

    for (; list && *list; list++) {
        size_t size = strlen(*list);

        while (size > 0 && (*list)[size - 1] == '/')
            size--; /* "/" is the prefix of all */
        if (size + 1 > best && strncmp(path, *list, size) == 0 &&
            (path[size] == '/' || path[size] == '\0'))
            best = size + 1;
    }
    return best;
}

int mi_prefixes_shared(char *const *share, char *const *local,
                       const char *path)
{
    return longest_prefix(share, path) >= longest_prefix(local, path);
}

int mi_prefixes_has(char *const *list, const char *path)
{
    return longest_prefix(list, path) > 0;
}
