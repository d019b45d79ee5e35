/* Which words of a launcher's command line are python3's and which are ours.
 */
#ifndef MI_LINE_H
#define MI_LINE_H

#include "options.h"

/* What an option or a variable is about. */
enum mi_item {
    MI_ITEM_PLAIN, /* nothing that we have to know */
    MI_ITEM_MPI,
    MI_ITEM_TMPDIR,
    MI_ITEM_MAX_STORE,
    MI_ITEM_VERBOSE,
    MI_ITEM_DIRECT,
    MI_ITEM_TIMING,
    MI_ITEM_STRATEGY,
    MI_ITEM_DATA,
    MI_ITEM_GC_DEFER,
    MI_ITEM_MANIFEST,
    MI_ITEM_MANIFEST_BUILD,
    MI_ITEM_SHARE,
    MI_ITEM_LOCAL,
    MI_ITEM_NO_SITE,
    MI_ITEM_SKIP_FIRST,
    MI_ITEM_HELP,
    MI_ITEM_VERSION,
    MI_ITEM_COMMAND,
    MI_ITEM_MODULE,
    MI_ITEMS
};

/* A value, not empty, and the option it came from. */
struct mi_given {
    const char *text; /* in a word of the command line, or constant */
    const char *origin;
    enum mi_item item;
};

/* A command line that is read from left to right. */
struct mi_line {
    struct mi_options *options; /* what is found goes there */
    char *const *next;          /* the first word that was not read */
    size_t words;               /* so many are in options->words */
    size_t python;
    char *kept;             /* room for a word that is put together */
    struct mi_given *given; /* in their order */
    size_t count;
    int counts[MI_ITEMS]; /* how often the options without value are there */
};

/* Read 'argv' (see mi_options_parse()) into 'line', and into the words,
 * python, program, value and args of 'options', which is zeroed.  With help or
 * version among the counts a program is not looked at.  Returns 0, or -1 with
 * 'err'; both are to be cleared all the same.
 */
int mi_line_read(struct mi_line *line, struct mi_options *options,
                 char *const *argv, struct mi_error *err);

/* Free what is in it, except for the options. */
void mi_line_clear(struct mi_line *line);

#endif
