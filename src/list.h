/* Lists of strings that end with a NULL, as argv does. */
#ifndef MI_LIST_H
#define MI_LIST_H

#include <stddef.h>

/* An empty list with room for 'capacity' strings, all NULL: who fills it in
 * order has a list at each moment.  NULL with errno without memory.
 */
char **mi_list_new(size_t capacity);

/* Free the strings and the list and set it to NULL, which is allowed. */
void mi_list_clear(char ***list);

size_t mi_list_length(char *const *list);

int mi_list_has(char *const *list, const char *text);

/* Move the strings of 'more' to the end of 'list', whose place may change.
 * Returns 0, or -1 with errno and both as they were.
 */
int mi_list_move(char ***list, char **more);

/* Move a copy of 'text' to the end of 'list', in the same manner. */
int mi_list_append(char ***list, const char *text);

/* A copy of 'list' (NULL is an empty one) into '*copy', in the same manner. */
int mi_list_copy(char ***copy, char *const *list);

/* Free the strings that 'other' has as well. */
void mi_list_subtract(char **list, char *const *other);

#endif
