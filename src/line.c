#include "line.h"

#include <stdlib.h>
#include <string.h>

#include "list.h"
#include "usage.h"

enum kind {
    KEPT,       /* python3's */
    TAKEN,      /* ours */
    KEPT_VALUE, /* with an argument */
    TAKEN_VALUE,
    OPTIONAL_VALUE, /* ours, "--word=argument" only */
    PROGRAM_VALUE   /* ends the options */
};

/* -R and -t do nothing, but CPython accepts them without listing them. */
static const struct option {
    char letter;
    const char *word;
    enum mi_item item;
    enum kind kind;
} known[] = {
    {'b', NULL, MI_ITEM_PLAIN, KEPT},
    {'B', NULL, MI_ITEM_PLAIN, KEPT},
    {'E', NULL, MI_ITEM_PLAIN, KEPT},
    {'i', NULL, MI_ITEM_PLAIN, KEPT},
    {'O', NULL, MI_ITEM_PLAIN, KEPT},
    {'P', NULL, MI_ITEM_PLAIN, KEPT},
    {'q', NULL, MI_ITEM_PLAIN, KEPT},
    {'R', NULL, MI_ITEM_PLAIN, KEPT},
    {'s', NULL, MI_ITEM_PLAIN, KEPT},
    {'S', NULL, MI_ITEM_NO_SITE, KEPT},
    {'t', NULL, MI_ITEM_PLAIN, KEPT},
    {'u', NULL, MI_ITEM_PLAIN, KEPT},
    {'x', NULL, MI_ITEM_SKIP_FIRST, KEPT},
    {'W', NULL, MI_ITEM_PLAIN, KEPT_VALUE},
    {'X', NULL, MI_ITEM_PLAIN, KEPT_VALUE},
    {0, "--check-hash-based-pycs", MI_ITEM_PLAIN, KEPT_VALUE},
    {'c', NULL, MI_ITEM_COMMAND, PROGRAM_VALUE},
    {'m', NULL, MI_ITEM_MODULE, PROGRAM_VALUE},
    {'h', "--help", MI_ITEM_HELP, KEPT},
    {'?', NULL, MI_ITEM_HELP, KEPT},
    {0, "--help-all", MI_ITEM_HELP, KEPT},
    {0, "--help-env", MI_ITEM_HELP, KEPT},
    {0, "--help-xoptions", MI_ITEM_HELP, KEPT},
    {'V', "--version", MI_ITEM_VERSION, KEPT},
    {'v', "--verbose", MI_ITEM_VERBOSE, TAKEN},
    {'d', "--direct", MI_ITEM_DIRECT, TAKEN},
    {'I', "--mpi", MI_ITEM_MPI, TAKEN_VALUE},
    {'T', "--tmpdir", MI_ITEM_TMPDIR, TAKEN_VALUE},
    {0, "--max-store", MI_ITEM_MAX_STORE, TAKEN_VALUE},
    {0, "--strategy", MI_ITEM_STRATEGY, TAKEN_VALUE},
    {0, "--data", MI_ITEM_DATA, TAKEN_VALUE},
    {0, "--no-gc-defer", MI_ITEM_GC_DEFER, TAKEN},
    {0, "--manifest", MI_ITEM_MANIFEST, TAKEN_VALUE},
    {0, "--manifest-build", MI_ITEM_MANIFEST_BUILD, TAKEN},
    {0, "--share", MI_ITEM_SHARE, TAKEN_VALUE},
    {0, "--local", MI_ITEM_LOCAL, TAKEN_VALUE},
    {0, "--timing", MI_ITEM_TIMING, OPTIONAL_VALUE},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct mi_choices hash_modes = {
    {"default", "always", "never"}, "'default', 'always', or 'never'"};

/* 'at' points to a letter, of which one beyond ASCII is several bytes. */
static int refuse_letter(const char *at, struct mi_error *err)
{
    int size = 1;

    if (*at == '-')
        return mi_usage_refuse(err, "expected long option");
    if (*at & 0x80)
        while ((at[size] & 0xc0) == 0x80)
            size++;
    return mi_usage_refuse(err, "Unknown option: -%.*s", size, at);
}

/* Copy 'text' to 'place', where nothing is yet. */
static int store(char **place, const char *text, struct mi_error *err)
{
    *place = strdup(text);
    return *place ? 0 : mi_usage_no_memory(err);
}

/* ---- the command line --------------------------------------------------- */

static int keep_program(struct mi_line *line, const char *word,
                        struct mi_error *err)
{
    return store(&line->options->words[line->words++], word, err);
}

static int keep_option(struct mi_line *line, const char *word,
                       struct mi_error *err)
{
    if (keep_program(line, word, err) != 0)
        return -1;
    return store(&line->options->python[line->python++], word, err);
}

/* The next word, an option's argument; NULL with 'err'. */
static const char *take(struct mi_line *line, const char *option,
                        struct mi_error *err)
{
    if (!*line->next) {
        mi_usage_missing(option, err);
        return NULL;
    }
    return *line->next++;
}

static int give(struct mi_line *line, enum mi_item item, const char *text,
                const char *origin, struct mi_error *err)
{
    if (!text)
        return -1;
    if (!*text)
        return mi_usage_missing(origin, err);
    line->given[line->count++] = (struct mi_given){text, origin, item};
    return 0;
}

static int keep_value(struct mi_line *line, const char *option,
                      struct mi_error *err)
{
    const char *text = take(line, option, err);

    return text ? keep_option(line, text, err) : -1;
}

static int set_program(struct mi_line *line, enum mi_item item,
                       const char *text, struct mi_error *err)
{
    line->options->program =
        item == MI_ITEM_COMMAND ? MI_PROGRAM_COMMAND : MI_PROGRAM_MODULE;
    return store(&line->options->value, text, err);
}

/* ---- short options ------------------------------------------------------ */

static const struct option *by_letter(char letter)
{
    for (size_t i = 0; i < COUNT(known); i++)
        if (known[i].letter == letter)
            return &known[i];
    return NULL;
}

/* "-c" and the like, for messages and as an origin. */
static const char *dashed(char letter)
{
    static const char *const names[] = {"-c", "-m", "-W", "-X", "-I", "-T"};
    size_t i = 0;

    while (names[i][1] != letter)
        i++;
    return names[i];
}

/* Letters of an interpreter's option, "-" and more. */
static int keep_letters(struct mi_line *line, struct mi_error *err)
{
    return line->kept[1] ? keep_option(line, line->kept, err) : 0;
}

static int letter_kept(struct mi_line *line, const char *at,
                       struct mi_error *err)
{
    strcat(line->kept, at);
    if (keep_letters(line, err) != 0)
        return -1;
    return at[1] ? 0 : keep_value(line, dashed(*at), err);
}

static int letter_taken(struct mi_line *line, const struct option *option,
                        const char *at, struct mi_error *err)
{
    const char *name = dashed(*at);

    if (keep_letters(line, err) != 0)
        return -1;
    return give(line, option->item, at[1] ? at + 1 : take(line, name, err),
                name, err);
}

/* The interpreter's letters before -c belong to both lists. */
static int letter_program(struct mi_line *line, const struct option *option,
                          const char *at, struct mi_error *err)
{
    const char *text = at + 1;
    char **python = line->options->python;

    if (line->kept[1] && store(&python[line->python++], line->kept, err) != 0)
        return -1;
    strcat(line->kept, at);
    if (keep_program(line, line->kept, err) != 0)
        return -1;
    if (!*text) {
        text = take(line, dashed(*at), err);
        if (!text || keep_program(line, text, err) != 0)
            return -1;
    }
    return set_program(line, option->item, text, err);
}

/* The letter at 'at' takes the rest of the word or the next one. */
static int letter_value(struct mi_line *line, const struct option *option,
                        const char *at, struct mi_error *err)
{
    if (option->kind == KEPT_VALUE)
        return letter_kept(line, at, err);
    if (option->kind == TAKEN_VALUE)
        return letter_taken(line, option, at, err);
    return letter_program(line, option, at, err);
}

/* Letters that share one dash, as in -Ouc. */
static int short_word(struct mi_line *line, const char *word,
                      struct mi_error *err)
{
    const struct option *option;
    char *end = line->kept;

    *end++ = '-';
    *end = '\0';
    for (const char *at = word + 1; *at; at++) {
        option = by_letter(*at);
        if (!option)
            return refuse_letter(at, err);
        if (option->kind != KEPT && option->kind != TAKEN)
            return letter_value(line, option, at, err);
        line->counts[option->item]++;
        if (option->kind == KEPT)
            *end++ = *at;
        *end = '\0';
    }
    return keep_letters(line, err);
}

/* ---- long options ------------------------------------------------------- */

/* The option of "--word" or "--word=argument". */
static const struct option *by_word(const char *word)
{
    size_t size = strcspn(word, "=");

    for (size_t i = 0; i < COUNT(known); i++)
        if (known[i].word && strlen(known[i].word) == size &&
            memcmp(known[i].word, word, size) == 0)
            return &known[i];
    return NULL;
}

static int hash_mode(struct mi_line *line, const char *word,
                     struct mi_error *err)
{
    const char *mode = take(line, word, err);

    if (!mode || mi_usage_choose(&hash_modes, mode, word, err) < 0 ||
        keep_option(line, word, err) != 0)
        return -1;
    return keep_option(line, mode, err);
}

static int long_value(struct mi_line *line, const struct option *option,
                      const char *equals, struct mi_error *err)
{
    const char *text;

    if (equals)
        text = equals + 1;
    else if (option->kind == OPTIONAL_VALUE)
        text = "1";
    else
        text = take(line, option->word, err);
    return give(line, option->item, text, option->word, err);
}

static int long_word(struct mi_line *line, const char *word,
                     struct mi_error *err)
{
    const struct option *option = by_word(word);
    const char *equals = strchr(word, '=');

    if (option &&
        (option->kind == TAKEN_VALUE || option->kind == OPTIONAL_VALUE))
        return long_value(line, option, equals, err);
    if (!option || equals)
        return mi_usage_refuse(err, "unknown option %s", word);
    if (option->kind == KEPT_VALUE)
        return hash_mode(line, word, err);
    line->counts[option->item]++;
    return option->kind == KEPT ? keep_option(line, word, err) : 0;
}

/* ---- the whole line ----------------------------------------------------- */

/* Read the options; what is left at line->next is the program. */
static int scan(struct mi_line *line, struct mi_error *err)
{
    int rc = 0;

    while (rc == 0 && *line->next && !line->options->value) {
        const char *word = *line->next;

        if (word[0] != '-' || !word[1])
            return 0;
        line->next++;
        if (strcmp(word, "--") == 0)
            return keep_program(line, word, err);
        rc = word[1] == '-' ? long_word(line, word, err)
                            : short_word(line, word, err);
    }
    return rc;
}

/* A program that neither -c nor -m named. */
static int name_program(struct mi_line *line, struct mi_error *err)
{
    struct mi_options *options = line->options;
    const char *word = *line->next;

    if (options->program != MI_PROGRAM_NONE || !word)
        return 0;
    line->next++;
    if (keep_program(line, word, err) != 0)
        return -1;
    if (strcmp(word, "-") == 0) {
        options->program = MI_PROGRAM_STDIN;
        return 0;
    }
    options->program = MI_PROGRAM_SCRIPT;
    return store(&options->value, word, err);
}

/* Program and arguments; 'args' is NULL where nothing is to run. */
static int keep_rest(struct mi_line *line, char **args, struct mi_error *err)
{
    if (args && name_program(line, err) != 0)
        return -1;
    for (; *line->next; line->next++) {
        if (keep_program(line, *line->next, err) != 0)
            return -1;
        if (args && store(args++, *line->next, err) != 0)
            return -1;
    }
    return 0;
}

static size_t longest(char *const *words)
{
    size_t size = 0;

    for (; *words; words++)
        if (strlen(*words) > size)
            size = strlen(*words);
    return size;
}

static int start(struct mi_line *line, char *const *argv, struct mi_error *err)
{
    struct mi_options *options = line->options;
    size_t n = mi_list_length(argv);

    line->next = argv;
    line->kept = malloc(longest(argv) + 2);
    line->given = calloc(n + 1, sizeof(*line->given));
    options->words = mi_list_new(n);
    options->python = mi_list_new(n);
    options->args = mi_list_new(n);
    if (!line->kept || !line->given || !options->words || !options->python ||
        !options->args)
        return mi_usage_no_memory(err);
    return 0;
}

int mi_line_read(struct mi_line *line, struct mi_options *options,
                 char *const *argv, struct mi_error *err)
{
    int asks;

    *line = (struct mi_line){.options = options};
    if (start(line, argv, err) != 0 || scan(line, err) != 0)
        return -1;
    asks = line->counts[MI_ITEM_HELP] || line->counts[MI_ITEM_VERSION];
    return keep_rest(line, asks ? NULL : options->args, err);
}

void mi_line_clear(struct mi_line *line)
{
    free(line->kept);
    free(line->given);
    line->kept = NULL;
    line->given = NULL;
    line->count = 0;
}
