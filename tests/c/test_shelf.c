/* src/shelf.c: what a rank that is alone has read ahead. */
#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/block.h"
#include "../../src/shelf.h"

static struct mi_shelf *shelf(void)
{
    struct mi_shelf *made = NULL;

    check_need(mi_shelf_create(&made, NULL) == 0, "memory");
    return made;
}

static struct mi_answer answer_of(size_t size, char fill)
{
    struct mi_answer answer = {
        .entry = {.query = MI_CODE, .kind = MI_KIND_FILE, .size = size}};

    answer.data = mi_block_new(size);
    check_need(answer.data != NULL, "memory");
    memset(answer.data, fill, size);
    answer.entry.payload = answer.data;
    return answer;
}

/* Read ahead a file of 'size' bytes: 1, or 0 if that is not wanted. */
static int read_ahead(struct mi_shelf *made, const char *key, size_t size)
{
    struct mi_answer answer;

    if (!mi_shelf_begin(made, MI_CODE, key))
        return 0;
    answer = answer_of(size, key[1]);
    mi_shelf_put(made, MI_CODE, key, &answer);
    CHECK(!answer.data);
    return 1;
}

/* Take it: 1 if it is there and the right one, 0 if not there. */
static int take(struct mi_shelf *made, const char *key)
{
    struct mi_answer answer = {0};
    int found = mi_shelf_take(made, MI_CODE, key, &answer);

    if (found) {
        CHECK(answer.entry.key == key && answer.data);
        CHECK(*(const char *)answer.entry.payload == key[1]);
    }
    mi_answer_clear(&answer);
    return found;
}

static void test_what_was_put_is_taken_once(void)
{
    struct mi_shelf *made = shelf();
    struct mi_answer answer;

    CHECK(read_ahead(made, "/a", 10) == 1);
    CHECK(read_ahead(made, "/b", 20) == 1);
    CHECK(read_ahead(made, "/a", 10) == 0);
    CHECK(!mi_shelf_take(made, MI_READ, "/a", &answer));
    CHECK(take(made, "/b") && !take(made, "/b"));
    CHECK(take(made, "/a") && !take(made, "/a"));
    CHECK(read_ahead(made, "/a", 10) == 0);
    mi_shelf_destroy(made);
}

static void test_what_was_asked_for_is_not_read_ahead(void)
{
    struct mi_shelf *made = shelf();

    CHECK(!take(made, "/a"));
    CHECK(read_ahead(made, "/a", 10) == 0);
    mi_shelf_destroy(made);
}

static void test_what_could_not_be_had_is_not_there(void)
{
    struct mi_shelf *made = shelf();

    CHECK(mi_shelf_begin(made, MI_CODE, "/a"));
    mi_shelf_put(made, MI_CODE, "/a", NULL);
    CHECK(!take(made, "/a"));
    mi_shelf_destroy(made);
}

static void test_not_taken_is_freed(void)
{
    struct mi_shelf *made = shelf();

    CHECK(read_ahead(made, "/a", 10) == 1);
    mi_shelf_destroy(made);
    mi_shelf_destroy(NULL);
}

/* ---- waiting -------------------------------------------------------------
 */

struct other {
    struct mi_shelf *shelf;
    const char *key;
    int result;
};

static void *put_later(void *arg)
{
    struct other *other = arg;
    struct mi_answer answer = answer_of(5, other->key[1]);

    check_sleep(20);
    mi_shelf_put(other->shelf, MI_CODE, other->key, &answer);
    return NULL;
}

static void *read_one(void *arg)
{
    struct other *other = arg;

    other->result = read_ahead(other->shelf, other->key, 1);
    return NULL;
}

static void test_what_is_being_read_is_waited_for(void)
{
    struct other other = {.shelf = shelf(), .key = "/a"};
    pthread_t thread;

    CHECK(mi_shelf_begin(other.shelf, MI_CODE, "/a"));
    check_need(pthread_create(&thread, NULL, put_later, &other) == 0,
               "thread");
    CHECK(take(other.shelf, "/a"));
    pthread_join(thread, NULL);
    mi_shelf_destroy(other.shelf);
}

/* Half and half of what there is room for, and one more by another thread,
 * which waits: for what 'on' does.
 */
static int result_when_full(int taken)
{
    struct other other = {.shelf = shelf(), .key = "/c", .result = -1};
    pthread_t thread;

    CHECK(read_ahead(other.shelf, "/a", MI_SHELF_BYTES / 2) == 1);
    CHECK(read_ahead(other.shelf, "/b", MI_SHELF_BYTES / 2) == 1);
    check_need(pthread_create(&thread, NULL, read_one, &other) == 0, "thread");
    check_sleep(20);
    if (taken)
        CHECK(take(other.shelf, "/a"));
    else
        mi_shelf_close(other.shelf);
    pthread_join(thread, NULL);
    CHECK(take(other.shelf, "/c") == taken);
    mi_shelf_destroy(other.shelf);
    return other.result;
}

static void test_full_waits_until_half_is_taken(void)
{
    CHECK(result_when_full(1) == 1);
}

static void test_full_waits_until_closed(void)
{
    CHECK(result_when_full(0) == 0);
}

static void test_passed_by_is_thrown_away(void)
{
    struct mi_shelf *made = shelf();
    char key[20];

    CHECK(read_ahead(made, "/large", MI_SHELF_BYTES - 1000) == 1);
    CHECK(read_ahead(made, "/small", 1) == 1);
    for (int i = 0; i < MI_SHELF_PASSED; i++) {
        snprintf(key, sizeof(key), "/%d", i);
        CHECK(read_ahead(made, key, 1) == 1);
        CHECK(take(made, key));
    }
    CHECK(!take(made, "/large"));
    CHECK(take(made, "/small"));
    mi_shelf_destroy(made);
}

int main(void)
{
    test_what_was_put_is_taken_once();
    test_what_was_asked_for_is_not_read_ahead();
    test_what_could_not_be_had_is_not_there();
    test_not_taken_is_freed();
    test_what_is_being_read_is_waited_for();
    test_full_waits_until_half_is_taken();
    test_full_waits_until_closed();
    test_passed_by_is_thrown_away();
    return check_report();
}
