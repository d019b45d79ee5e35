#include "list.h"

#include <stdlib.h>
#include <string.h>

char **mi_list_new(size_t capacity)
{
    return calloc(capacity + 1, sizeof(char *));
}

void mi_list_clear(char ***list)
{
    for (size_t i = 0; *list && (*list)[i]; i++)
        free((*list)[i]);
    free(*list);
    *list = NULL;
}

size_t mi_list_length(char *const *list)
{
    size_t n = 0;

    while (list[n])
        n++;
    return n;
}

int mi_list_has(char *const *list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return 1;
    return 0;
}

int mi_list_move(char ***list, char **more)
{
    size_t n = mi_list_length(*list), added = mi_list_length(more);
    char **longer = realloc(*list, (n + added + 1) * sizeof(*longer));

    if (!longer)
        return -1;
    memcpy(longer + n, more, (added + 1) * sizeof(*longer));
    more[0] = NULL;
    *list = longer;
    return 0;
}

int mi_list_append(char ***list, const char *text)
{
    char *one[2] = {strdup(text), NULL};

    if (!one[0])
        return -1;
    if (mi_list_move(list, one) == 0)
        return 0;
    free(one[0]);
    return -1;
}

int mi_list_copy(char ***copy, char *const *list)
{
    *copy = mi_list_new(0);
    if (!*copy)
        return -1;
    for (; list && *list; list++)
        if (mi_list_append(copy, *list) != 0) {
            mi_list_clear(copy);
            return -1;
        }
    return 0;
}

void mi_list_subtract(char **list, char *const *other)
{
    char **to = list;

    for (; *list; list++)
        if (mi_list_has(other, *list))
            free(*list);
        else
            *to++ = *list;
    *to = NULL;
}
