/* Tests of src/copy.c and src/early.c: files on their way into the mirror. */
#include "check.h"

#include <pthread.h>
#include <sys/sendfile.h>

#include "../../src/copy.h"
#include "../../src/early.h"

#define MIB ((size_t)1 << 20)

static char scratch[PATH_MAX];
static struct mi_traffic traffic;
static struct mi_dirs *dirs;
static struct mi_mirror *mirror;

static const char *below(const char *name)
{
    static _Thread_local char path[2][PATH_MAX];
    static _Thread_local unsigned next;

    next = (next + 1) % 2;
    return check_join(path[next], scratch, name);
}

static void *write_file(const char *name, size_t size)
{
    unsigned char *bytes = malloc(size);

    check_need(bytes != NULL, "memory");
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 4093);
    check_write(below(name), bytes, size);
    return bytes;
}

/* ---- copies ------------------------------------------------------------- */

static void test_each_size_copied(void)
{
    const size_t sizes[] = {1, 4096, MIB, 3 * MIB + 17};
    struct mi_copy copy;
    void *bytes;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        bytes = write_file("file", sizes[i]);
        atomic_store(&traffic.bytes, 0);
        CHECK(mi_copy_open(&copy, dirs, below("file")) == 0);
        CHECK(copy.identity.size == sizes[i] && !copy.part.id && !copy.bytes);
        CHECK(mi_copy_make(&copy, mirror, i + 1, NULL, &traffic, NULL) == 0);
        CHECK(copy.bytes && memcmp(copy.bytes, bytes, sizes[i]) == 0);
        CHECK(atomic_load(&traffic.bytes) == sizes[i]);
        CHECK(copy.part.id == i + 1 && copy.part.file < 0);
        mi_copy_clear(&copy, mirror);
        mi_copy_clear(&copy, mirror);
        free(bytes);
    }
}

static void test_image_copied(void)
{
    struct mi_copy copy = {.file = -1, .mode = 0755, .identity.size = 5};

    CHECK(mi_copy_make(&copy, mirror, 9, "image", &traffic, NULL) == 0);
    CHECK(copy.bytes && memcmp(copy.bytes, "image", 5) == 0);
    mi_copy_clear(&copy, mirror);
}

static int sendfile_fails(int to, int from)
{
    return sendfile(to, from, NULL, 1) < 0 && errno == EINVAL;
}

/* Where sendfile(2) cannot: to a file that is only appended to. */
static void test_no_sendfile_read_by_hand(void)
{
    void *bytes = write_file("file", 2 * MIB + 5);
    struct mi_part part = {.size = 2 * MIB + 5};
    int file = open(below("file"), O_RDONLY);

    part.file = open(below("part"), O_RDWR | O_CREAT | O_APPEND, 0600);
    check_need(file >= 0 && part.file >= 0, "part");
    CHECK(sendfile_fails(part.file, file));
    CHECK(mi_copy_fill(file, &part, &traffic, NULL) == 0);
    CHECK(check_holds(below("part"), bytes, part.size));
    close(file);
    close(part.file);
    free(bytes);
}

static void test_shorter_by_now_fails(void)
{
    struct mi_copy copy;
    struct mi_error err;

    free(write_file("file", MIB));
    CHECK(mi_copy_open(&copy, dirs, below("file")) == 0);
    check_need(truncate(below("file"), 1000) == 0, "truncate");
    CHECK(mi_copy_make(&copy, mirror, 10, NULL, &traffic, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EIO);
    CHECK(!copy.part.id && !copy.bytes);
    mi_copy_clear(&copy, mirror);
}

static void test_no_file_code(void)
{
    struct mi_copy copy;

    check_write(below("empty"), "", 0);
    CHECK(mi_copy_open(&copy, dirs, below("absent")) == ENOENT);
    CHECK(mi_copy_open(&copy, dirs, below("empty")) == EINVAL);
    CHECK(mi_copy_open(&copy, dirs, scratch) == EINVAL);
    CHECK(copy.file < 0);
}

/* ---- early -------------------------------------------------------------- */

static void test_given_taken_once(void)
{
    const struct mi_copy copy = {.file = 77};
    struct mi_copy found = {0};
    struct mi_early *early;

    check_need(mi_early_create(&early, NULL) == 0, "memory");
    CHECK(!mi_early_take(early, "/a", &found));
    CHECK(mi_early_begin(early, "/a") && !mi_early_begin(early, "/a"));
    CHECK(mi_early_begin(early, "/b"));
    mi_early_give(early, "/a", &copy);
    CHECK(mi_early_take(early, "/a", &found) && found.file == 77);
    CHECK(!mi_early_take(early, "/a", &found));
    CHECK(!mi_early_end(early, "/a", &found));
    mi_early_give(early, "/b", NULL);
    CHECK(!mi_early_take(early, "/b", &found));
    CHECK(!mi_early_end(early, "/b", &found));
    /* What nobody takes comes back. */
    CHECK(mi_early_begin(early, "/a"));
    mi_early_give(early, "/a", &copy);
    found.file = 0;
    CHECK(mi_early_end(early, "/a", &found) && found.file == 77);
    mi_early_destroy(early);
    mi_early_destroy(NULL);
}

struct taker {
    struct mi_early *early;
    int taken;
};

static void *take(void *arg)
{
    struct taker *taker = arg;
    struct mi_copy copy;

    taker->taken = mi_early_take(taker->early, "/a", &copy);
    return NULL;
}

/* Of those who wait one gets it, and the end waits for them. */
static void test_takers_wait_one_gets_it(void)
{
    const struct mi_copy copy = {.file = 77};
    struct taker taker[3];
    pthread_t thread[3];
    struct mi_early *early;
    struct mi_copy found;
    int taken = 0;

    check_need(mi_early_create(&early, NULL) == 0, "memory");
    CHECK(mi_early_begin(early, "/a"));
    for (int i = 0; i < 3; i++) {
        taker[i] = (struct taker){.early = early};
        check_need(pthread_create(&thread[i], NULL, take, &taker[i]) == 0,
                   "thread");
    }
    check_sleep(20);
    mi_early_give(early, "/a", &copy);
    taken = mi_early_end(early, "/a", &found); /* if all are late */
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], NULL);
        taken += taker[i].taken;
    }
    CHECK(taken == 1);
    mi_early_destroy(early);
}

int main(void)
{
    char top[PATH_MAX];

    check_scratch(scratch);
    check_need(mkdir(check_join(top, scratch, "top"), 0700) == 0, top);
    check_need(mi_dirs_create(&dirs, -1, &traffic, NULL) == 0 &&
                   mi_mirror_create(&mirror, top, NULL) == 0,
               "memory");
    test_each_size_copied();
    test_image_copied();
    test_no_sendfile_read_by_hand();
    test_shorter_by_now_fails();
    test_no_file_code();
    test_given_taken_once();
    test_takers_wait_one_gets_it();
    mi_mirror_destroy(mirror);
    CHECK(check_entries(top) == 0);
    mi_dirs_destroy(dirs);
    check_remove(scratch);
    return check_report();
}
