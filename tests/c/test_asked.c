/* Tests of src/asked.c: what goes into the next manifest, and in what order.
 */
#include "check.h"

#include <pthread.h>

#include "../../src/asked.h"
#include "../../src/store.h"

#define OWN MI_MANIFEST_OWN
#define SINCE 1000 /* when the job began */

static struct mi_store *store; /* this run's answers */

/* The next manifest as text: paths, with '*' for rank 0's own, '-' for absent
 * ones, the extra, and their age.
 */
static const char *shown(struct mi_asked *asked)
{
    static char text[4000];
    struct mi_question *questions;
    size_t count, used = 0;
    int rc = mi_asked_merge(asked, store, SINCE, &questions, &count);

    if (rc <= 0)
        return rc == 0 ? "as it was" : "no memory";
    text[0] = '\0';
    for (size_t i = 0; i < count && used < sizeof(text); i++) {
        const struct mi_question *q = &questions[i];

        used += (size_t)snprintf(
            text + used, sizeof(text) - used, "%s%s%s%s%s", i ? " " : "",
            q->key, q->flags & OWN ? "*" : "",
            q->flags & MI_MANIFEST_ABSENT ? "-" : "", q->extra);
        if (q->age && used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "+%u",
                                     q->age);
    }
    free(questions);
    return text;
}

static int is(struct mi_asked *asked, const char *expected)
{
    const char *found = shown(asked);

    if (strcmp(found, expected) != 0)
        fprintf(stderr, "found: %s\n", found);
    return strcmp(found, expected) == 0;
}

static struct mi_asked *make(struct mi_manifest *manifest)
{
    static struct mi_manifest none;
    struct mi_asked *asked = mi_asked_create(manifest ? manifest : &none);

    check_need(asked != NULL, "memory");
    return asked;
}

static void own(struct mi_asked *asked, const char *key)
{
    mi_asked_add(asked, MI_STAT, key, "", MI_ASKER_OWN);
}

static void other(struct mi_asked *asked, const char *key)
{
    mi_asked_add(asked, MI_STAT, key, "", MI_ASKER_OTHER);
}

/* ---- the first run --------------------------------------------------------
 */

static void test_first_run_order_of_need_each_once(void)
{
    struct mi_asked *asked = make(NULL);
    char key[] = "/b";

    CHECK(is(asked, "as it was"));
    own(asked, key);
    key[1] = 'x'; /* copied */
    other(asked, "/a");
    own(asked, "/c");
    own(asked, "/b");
    other(asked, "/c");
    CHECK(is(asked, "/b* /a /c*"));
    own(asked, "/a"); /* needed first by another */
    CHECK(is(asked, "/b* /a* /c*"));
    mi_asked_destroy(asked);
}

static void test_same_path_other_query_is_another(void)
{
    struct mi_asked *asked = make(NULL);

    own(asked, "/a");
    mi_asked_add(asked, MI_LIST, "/a", "", MI_ASKER_OWN);
    CHECK(is(asked, "/a* /a*"));
    mi_asked_destroy(asked);
}

static void test_read_ahead_only_not_recorded(void)
{
    struct mi_asked *asked = make(NULL);
    struct mi_asked_count counts;

    mi_asked_add(asked, MI_CODE, "/a.py", ":a", MI_ASKER_NOBODY);
    mi_asked_add(asked, MI_CODE, "/b.py", ":b", MI_ASKER_NOBODY);
    CHECK(is(asked, "as it was"));
    mi_asked_counts(asked, &counts);
    CHECK(counts.known == 0 && counts.added == 0);
    /* The program finds it there: the .pyc's place is known. */
    mi_asked_add(asked, MI_CODE, "/b.py", "", MI_ASKER_OWN);
    CHECK(is(asked, "/b.py*:b"));
    mi_asked_destroy(asked);
}

static void test_code_of_unknown_place_left_out(void)
{
    struct mi_asked *asked = make(NULL);

    mi_asked_add(asked, MI_CODE, "/a.py", "", MI_ASKER_OWN);
    CHECK(is(asked, "as it was"));
    own(asked, "/b");
    CHECK(is(asked, "/b*"));
    mi_asked_add(asked, MI_CODE, "/a.py", ":a", MI_ASKER_OTHER);
    CHECK(is(asked, "/a.py*:a /b*"));
    mi_asked_destroy(asked);
}

static void test_relative_and_nobody_ignored(void)
{
    struct mi_asked *asked = make(NULL);

    own(asked, "a");
    own(asked, "");
    CHECK(is(asked, "as it was"));
    mi_asked_destroy(asked);
    mi_asked_destroy(NULL);
    own(NULL, "/a");
    mi_asked_mark(NULL, NULL);
}

/* The answer to a question: absent, or modified at 'mtime'. */
static const struct mi_record *answer(const char *key, int absent,
                                      int64_t mtime)
{
    const struct mi_record *record = NULL;
    const struct mi_entry entry = {.query = MI_STAT,
                                   .kind =
                                       absent ? MI_KIND_ABSENT : MI_KIND_STAT,
                                   .code = absent ? ENOENT : 0,
                                   .mtime = mtime,
                                   .key = key,
                                   .key_size = strlen(key)};

    check_need(mi_store_append(store, &entry, &record, NULL) == 0, "store");
    return record;
}

static void test_mark_by_record(void)
{
    const struct mi_record *record = answer("/marked", 0, 0);
    struct mi_asked *asked = make(NULL);

    other(asked, "/marked");
    mi_asked_mark(asked, record);
    mi_asked_mark(asked, record);
    CHECK(is(asked, "/marked*"));
    mi_asked_destroy(asked);
}

static void test_absent_said_in_the_manifest(void)
{
    struct mi_question gone[] = {{MI_STAT, OWN, 0, "/gone", ""},
                                 {MI_STAT, OWN | 2, 0, "/marked", ""}};
    struct mi_manifest manifest = {.questions = gone, .count = 2};
    struct mi_asked *asked = make(NULL);

    mi_asked_mark(asked, answer("/gone", 1, 0));
    own(asked, "/marked");
    CHECK(is(asked, "/gone*- /marked*"));
    mi_asked_destroy(asked);
    asked = make(&manifest); /* the other way round */
    own(asked, "/gone");
    own(asked, "/marked");
    CHECK(is(asked, "/gone*- /marked*"));
    mi_asked_destroy(asked);
}

static void test_modified_in_this_run_left_out(void)
{
    struct mi_question two[] = {{MI_STAT, OWN, 0, "/young", ""},
                                {MI_STAT, OWN, 0, "/old", ""}};
    struct mi_manifest manifest = {.questions = two, .count = 2};
    struct mi_asked *asked = make(NULL);

    answer("/young", 0, SINCE);
    answer("/old", 0, SINCE - 1);
    own(asked, "/young");
    CHECK(is(asked, "as it was"));
    own(asked, "/old");
    CHECK(is(asked, "/old*"));
    mi_asked_destroy(asked);
    asked = make(&manifest);
    own(asked, "/young");
    own(asked, "/old");
    CHECK(is(asked, "/old*"));
    mi_asked_destroy(asked);
}

/* Unpacked in this run, with the times that it had in the archive. */
static void test_changed_in_this_run_left_out(void)
{
    const struct mi_entry entry = {.query = MI_STAT,
                                   .kind = MI_KIND_STAT,
                                   .mtime = 1,
                                   .changed = SINCE,
                                   .key = "/unpacked",
                                   .key_size = 9};
    struct mi_asked *asked = make(NULL);

    check_need(mi_store_append(store, &entry, NULL, NULL) == 0, "store");
    own(asked, "/unpacked");
    CHECK(is(asked, "as it was"));
    mi_asked_destroy(asked);
}

static void test_right_beside_the_program_left_out(void)
{
    struct mi_asked *asked = make(NULL);

    own(asked, "/p");
    own(asked, "/p/a.py");
    own(asked, "/p/a/b.py");
    mi_asked_add(asked, MI_LIST, "/p", "", MI_ASKER_OWN);
    mi_asked_add(asked, MI_LIST, "/p/a", "", MI_ASKER_OWN);
    own(asked, "/pp");
    mi_asked_own(asked, "/p");
    mi_asked_own(asked, "/pp");
    CHECK(is(asked, "/p/a/b.py* /p/a* /pp*"));
    mi_asked_destroy(asked);
    mi_asked_own(NULL, "/p");
}

/* ---- later runs ------------------------------------------------------------
 */

static struct mi_question before[] = {
    {MI_STAT, OWN, 0, "/A", ""}, {MI_STAT, 0, 0, "/b", ""},
    {MI_STAT, OWN, 0, "/C", ""}, {MI_STAT, 0, 4, "/d", ""},
    {MI_STAT, OWN, 0, "/E", ""},
};
static struct mi_manifest known = {.questions = before, .count = 5};

/* Of the others' questions nobody hears: they find their answers. */
static void test_same_program_nothing_to_write(void)
{
    struct mi_asked *asked = make(&known);
    struct mi_asked_count counts;

    own(asked, "/E");
    own(asked, "/C");
    own(asked, "/A");
    CHECK(is(asked, "as it was"));
    other(asked, "/b"); /* one was faster than the pool */
    other(asked, "/d");
    other(asked, "/A");
    CHECK(is(asked, "as it was"));
    mi_asked_counts(asked, &counts);
    CHECK(counts.known == 5 && counts.used == 3);
    CHECK(counts.added == 0 && counts.dropped == 0);
    mi_asked_destroy(asked);
}

static void test_new_question_written_the_rest_stays(void)
{
    struct mi_asked *asked = make(&known);

    own(asked, "/A");
    own(asked, "/N");
    own(asked, "/C");
    own(asked, "/E");
    /* Those that only others need stay behind what they came after. */
    CHECK(is(asked, "/A* /b+1 /N* /C* /d+5 /E*"));
    mi_asked_destroy(asked);
}

static void test_unused_grows_old_and_is_dropped(void)
{
    struct mi_question one[] = {{MI_STAT, OWN, 0, "/A", ""},
                                {MI_STAT, OWN, 0, "/B", ""}};
    struct mi_manifest manifest = {.questions = one, .count = 2};
    struct mi_asked_count counts;
    struct mi_asked *asked;
    char expected[32];

    for (one[1].age = 0; one[1].age < MI_MANIFEST_AGE; one[1].age++) {
        asked = make(&manifest);
        own(asked, "/A");
        snprintf(expected, sizeof(expected), "/A* /B*+%u", one[1].age + 1);
        CHECK(is(asked, one[1].age + 1 < MI_MANIFEST_AGE ? expected : "/A*"));
        mi_asked_counts(asked, &counts);
        CHECK(counts.dropped == (one[1].age + 1 == MI_MANIFEST_AGE));
        mi_asked_destroy(asked);
    }
    one[1].age = 7;
    asked = make(&manifest);
    own(asked, "/A");
    own(asked, "/B");
    CHECK(is(asked, "/A* /B*")); /* young again */
    mi_asked_destroy(asked);
}

static void test_others_question_of_the_program_now(void)
{
    struct mi_asked *asked = make(&known);

    own(asked, "/A");
    own(asked, "/C");
    own(asked, "/E");
    own(asked, "/b");
    CHECK(is(asked, "/A* /C* /d+5 /E* /b*"));
    mi_asked_destroy(asked);
}

static void test_nothing_used_all_stay(void)
{
    struct mi_asked *asked = make(&known);

    CHECK(is(asked, "/A*+1 /b+1 /C*+1 /d+5 /E*+1"));
    mi_asked_destroy(asked);
}

static void test_doubled_question_counts_once(void)
{
    struct mi_question twice[] = {{MI_STAT, OWN, 0, "/A", ""},
                                  {MI_STAT, OWN, 0, "/A", ""}};
    struct mi_manifest manifest = {.questions = twice, .count = 2};
    struct mi_asked *asked = make(&manifest);

    CHECK(is(asked, "/A*+1"));
    mi_asked_destroy(asked);
}

/* ---- many ------------------------------------------------------------------
 */

#define MANY 20000
#define THREADS 4

static void *ask_many(void *arg)
{
    char key[32];

    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof(key), "/%d", i);
        own(arg, key);
    }
    return NULL;
}

static void test_many_in_threads_each_once(void)
{
    struct mi_asked *asked = make(NULL);
    struct mi_question *questions;
    pthread_t threads[THREADS];
    size_t count = 0;

    for (int i = 0; i < THREADS; i++)
        check_need(!pthread_create(&threads[i], NULL, ask_many, asked),
                   "thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(mi_asked_merge(asked, store, SINCE, &questions, &count) == 1);
    CHECK(count == MANY);
    for (size_t i = 1; i < count; i++)
        if (atoi(questions[i].key + 1) != atoi(questions[i - 1].key + 1) + 1)
            CHECK(!"in order");
    free(questions);
    mi_asked_destroy(asked);
}

/* ---- less memory -----------------------------------------------------------
 */

#define PYC(directory, name) directory "/__pycache__/" name ".cpython-3.pyc"

/* Questions of all shapes: with an answer and without, with bytecode where it
 * belongs, and elsewhere.
 */
static const struct mi_question shapes[] = {
    {MI_CODE, OWN, 0, "/s/in.py", PYC("/s", "in")},
    {MI_CODE, OWN, 0, "/s/out.py", PYC("/s", "out")},
    {MI_CODE, OWN, 0, "/s/x.py", "/s/x.pyc"},
    {MI_CODE, OWN, 0, "/s/y.py", PYC("/s", "z")},
    {MI_CODE, OWN, 0, "/s/other.py", "/s/__pycache__/other.pypy.pyc"},
    {MI_CODE, OWN, 0, "/top.py", PYC("", "top")},
    {MI_CODE, OWN, 0, "/s/.py", PYC("/s", "")},
    {MI_CODE, OWN, 0, "/s.t/none", PYC("/s.t", "none")},
    {MI_STAT, OWN, 0, "/s/marked", ""},
    {MI_STAT, OWN, 0, "/s/unmarked", ""},
};
enum { SHAPES = sizeof(shapes) / sizeof(*shapes) };

static void answer_code(const char *key)
{
    const struct mi_entry entry = {.query = MI_CODE,
                                   .kind = MI_KIND_STAT,
                                   .key = key,
                                   .key_size = strlen(key)};

    check_need(mi_store_append(store, &entry, NULL, NULL) == 0, "store");
}

static struct mi_asked *with_shapes(struct mi_manifest *manifest)
{
    char *bytes = calloc(SHAPES, 200), *at = bytes;

    *manifest =
        (struct mi_manifest){.questions = calloc(SHAPES, sizeof(shapes[0])),
                             .count = SHAPES,
                             .bytes = bytes};
    check_need(bytes && manifest->questions, "memory");
    for (int i = 0; i < SHAPES; i++, at += 200) {
        manifest->questions[i] = shapes[i];
        manifest->questions[i].key = strcpy(at, shapes[i].key);
        manifest->questions[i].extra = strcpy(at + 100, shapes[i].extra);
    }
    return make(manifest);
}

/* All of them asked in the order of the manifest, and one more. */
static const char *ask_shapes(struct mi_asked *asked, const char *extra)
{
    static char text[4000];

    for (int i = 0; i < SHAPES; i++)
        mi_asked_add(asked, shapes[i].query, shapes[i].key,
                     extra ? extra : shapes[i].extra, MI_ASKER_OWN);
    own(asked, "/new");
    return strcpy(text, shown(asked));
}

static void test_shrunk_says_the_same(void)
{
    struct mi_manifest manifest;
    struct mi_asked *asked = with_shapes(&manifest);
    char expected[4000], *again;

    strcpy(expected, ask_shapes(asked, ""));
    CHECK(strstr(expected, "/s/in.py*" PYC("/s", "in") " ") != NULL);
    CHECK(strstr(expected, "/s/x.py*/s/x.pyc ") != NULL);
    mi_asked_destroy(asked);
    mi_manifest_clear(&manifest);
    answer_code("/s/in.py");
    answer_code("/s/x.py");
    answer("/s/marked", 0, 0);
    asked = with_shapes(&manifest);
    mi_asked_shrink(asked, store);
    CHECK(!manifest.bytes && !manifest.questions && manifest.count == 0);
    again = malloc(SHAPES * 200); /* where the texts were */
    check_need(again != NULL, "memory");
    memset(again, 'x', SHAPES * 200);
    mi_asked_shrink(asked, store);
    ask_shapes(asked, "");
    mi_asked_shrink(asked, store);
    CHECK(is(asked, expected));
    free(again);
    mi_asked_destroy(asked);
    mi_asked_shrink(NULL, store);
}

static void test_shrunk_first_run_says_the_same(void)
{
    struct mi_asked *asked = make(NULL);
    char expected[4000];

    strcpy(expected, ask_shapes(asked, NULL));
    mi_asked_destroy(asked);
    asked = make(NULL);
    ask_shapes(asked, NULL);
    mi_asked_shrink(asked, store);
    CHECK(is(asked, expected));
    CHECK(is(asked, expected));
    mi_asked_destroy(asked);
}

int main(void)
{
    check_need(mi_store_create_private(&store, 1 << 20, NULL) == 0, "store");
    test_first_run_order_of_need_each_once();
    test_same_path_other_query_is_another();
    test_read_ahead_only_not_recorded();
    test_code_of_unknown_place_left_out();
    test_relative_and_nobody_ignored();
    test_mark_by_record();
    test_absent_said_in_the_manifest();
    test_modified_in_this_run_left_out();
    test_changed_in_this_run_left_out();
    test_right_beside_the_program_left_out();
    test_same_program_nothing_to_write();
    test_new_question_written_the_rest_stays();
    test_unused_grows_old_and_is_dropped();
    test_others_question_of_the_program_now();
    test_nothing_used_all_stay();
    test_doubled_question_counts_once();
    test_shrunk_says_the_same();
    test_shrunk_first_run_says_the_same();
    test_many_in_threads_each_once();
    mi_store_destroy(store);
    return check_report();
}
