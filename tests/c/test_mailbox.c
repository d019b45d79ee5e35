/* Tests of src/mailbox.c by one thread, and by processes of one node. */
#include "check.h"

#include <sys/mman.h>

#include "../../src/mailbox.h"

static char scratch[PATH_MAX];
static int scratch_dir;

static struct mi_mailbox *private_box(void)
{
    struct mi_mailbox *box = NULL;

    check_need(mi_mailbox_create_private(&box, NULL) == 0, "mailbox");
    return box;
}

static struct mi_mailbox *shared_box(const char *name)
{
    struct mi_mailbox *box = NULL;

    check_need(mi_mailbox_create(&box, scratch_dir, name, NULL) == 0,
               "mailbox");
    return box;
}

/* A message buffer of just the size that mi_mailbox_take() may use. */
static unsigned char *buffer(void)
{
    unsigned char *block = malloc(MI_ASK_MAX);

    check_need(block != NULL, "memory");
    return block;
}

/* ---- asks ----------------------------------------------------------------
 */

static void test_take_nothing_posted_nothing(void)
{
    struct mi_mailbox *box = private_box();
    unsigned char *message = buffer();

    CHECK(mi_mailbox_take(box, message) == 0);
    CHECK(mi_mailbox_take(box, message) == 0);
    free(message);
    mi_mailbox_destroy(box);
    mi_mailbox_destroy(NULL);
}

static void test_post_each_size_taken_same(void)
{
    static const size_t sizes[] = {
        1, 2, 15, 16, 17, 1000, 4096, 4111, MI_ASK_MAX - 1, MI_ASK_MAX};
    struct mi_mailbox *box = private_box();
    unsigned char *out = buffer(), *in;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        in = malloc(sizes[i]);
        check_need(in != NULL, "memory");
        for (size_t n = 0; n < sizes[i]; n++)
            in[n] = (unsigned char)(n * 7 + i);
        CHECK(mi_mailbox_post(box, in, sizes[i]) == 1);
        memset(out, 0, MI_ASK_MAX);
        CHECK(mi_mailbox_take(box, out) == sizes[i]);
        CHECK(memcmp(in, out, sizes[i]) == 0);
        CHECK(mi_mailbox_take(box, out) == 0);
        free(in);
    }
    free(out);
    mi_mailbox_destroy(box);
}

/* Post numbers until nobody takes more; returns how many. */
static unsigned post_all(struct mi_mailbox *box)
{
    unsigned count = 0;

    while (count < 100000 && mi_mailbox_post(box, &count, sizeof(count)))
        count++;
    return count;
}

static void test_post_all_slots_taken_refused(void)
{
    struct mi_mailbox *box = private_box();
    unsigned char *message = buffer();
    unsigned slots = post_all(box), number, seen = 0;
    unsigned char *got = calloc(1, slots + 1);

    check_need(got != NULL, "memory");
    CHECK(slots >= 16 && slots < 100000);
    CHECK(mi_mailbox_post(box, &slots, sizeof(slots)) == 0);
    /* One out, one in. */
    CHECK(mi_mailbox_take(box, message) == sizeof(number));
    memcpy(&number, message, sizeof(number));
    CHECK(number < slots && !got[number]);
    got[number] = 1;
    CHECK(mi_mailbox_post(box, &slots, sizeof(slots)) == 1);
    CHECK(mi_mailbox_post(box, &slots, sizeof(slots)) == 0);
    /* In any order, each once. */
    while (mi_mailbox_take(box, message) == sizeof(number)) {
        memcpy(&number, message, sizeof(number));
        CHECK(number <= slots && !got[number]);
        if (number <= slots)
            got[number] = 1;
        seen++;
    }
    CHECK(seen == slots);
    CHECK(post_all(box) == slots);
    free(got);
    free(message);
    mi_mailbox_destroy(box);
}

/* A packed ask, which is what it is for. */
static void test_post_longest_ask_unpacked(void)
{
    struct mi_mailbox *box = private_box();
    unsigned char *message = buffer(), *out = buffer();
    char *path = malloc(MI_PATH);
    const struct mi_ask ask = {.query = MI_CODE,
                               .key = path,
                               .key_size = MI_PATH,
                               .extra = path,
                               .extra_size = MI_PATH};
    struct mi_ask found;
    size_t size;

    check_need(path != NULL, "memory");
    memset(path, 'p', MI_PATH);
    CHECK(mi_ask_pack(message, &ask, &size, NULL) == 0);
    CHECK(mi_mailbox_post(box, message, size) == 1);
    CHECK(mi_mailbox_take(box, out) == size);
    CHECK(mi_ask_unpack(out, size, &found, NULL) == 0);
    CHECK(found.query == MI_CODE && found.key_size == MI_PATH &&
          found.extra_size == MI_PATH);
    free(path);
    free(out);
    free(message);
    mi_mailbox_destroy(box);
}

/* ---- what another process may have written ---------------------------------
 */

/* Where in the file's 'size' bytes these are, 4 bytes aligned; or 'size'. */
static size_t place_of(const unsigned char *bytes, size_t size,
                       const char *text)
{
    for (size_t at = 0; at + strlen(text) <= size; at += 4)
        if (memcmp(bytes + at, text, strlen(text)) == 0)
            return at;
    return size;
}

static unsigned char *map_file(const char *name, size_t *size)
{
    int file = openat(scratch_dir, name, O_RDWR);
    struct stat status;
    void *bytes;

    check_need(file >= 0 && fstat(file, &status) == 0, name);
    *size = (size_t)status.st_size;
    bytes = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    check_need(bytes != MAP_FAILED, name);
    close(file);
    return bytes;
}

static void test_take_hostile_size_ignored(void)
{
    static const uint32_t hostile[] = {MI_ASK_MAX + 1, 1u << 20, INT32_MAX,
                                       UINT32_MAX, 0};
    struct mi_mailbox *box = shared_box("hostile");
    unsigned char *message = buffer(), *bytes;
    size_t size, at;
    unsigned slots;

    bytes = map_file("hostile", &size);
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        CHECK(mi_mailbox_post(box, "hostile message", 15) == 1);
        CHECK(mi_mailbox_post(box, "honest one", 10) == 1);
        at = place_of(bytes, size, "hostile message");
        CHECK(at < size);
        if (at == size)
            break;
        CHECK(memcmp(bytes + at - 4, &(uint32_t){15}, 4) == 0);
        memcpy(bytes + at - 4, &hostile[i], 4);
        CHECK(mi_mailbox_take(box, message) == 10);
        CHECK(memcmp(message, "honest one", 10) == 0);
        CHECK(mi_mailbox_take(box, message) == 0);
        memset(bytes + at, 0, 15);
    }
    /* The slots are free again. */
    slots = post_all(box);
    while (mi_mailbox_take(box, message) > 0)
        slots--;
    CHECK(slots == 0);
    munmap(bytes, size);
    mi_mailbox_destroy(box);
    free(message);
    unlinkat(scratch_dir, "hostile", 0);
}

/* ---- waiting ---------------------------------------------------------------
 */

static void test_growth_counted(void)
{
    struct mi_mailbox *box = private_box();
    uint32_t seen = mi_mailbox_growth(box);

    mi_mailbox_grown(box);
    CHECK(mi_mailbox_growth(box) != seen);
    CHECK(mi_mailbox_waiters(box) == 0);
    mi_mailbox_destroy(box);
}

static void test_wait_growth_grown_before_returns(void)
{
    struct mi_mailbox *box = private_box();
    uint32_t seen = mi_mailbox_growth(box);
    double begin = check_seconds();

    mi_mailbox_grown(box);
    mi_mailbox_wait_growth(box, seen, 10000);
    CHECK(check_seconds() - begin < 5);
    CHECK(mi_mailbox_waiters(box) == 0);
    mi_mailbox_destroy(box);
}

static void test_wait_growth_nothing_times_out(void)
{
    struct mi_mailbox *box = private_box();
    double begin = check_seconds();

    mi_mailbox_wait_growth(box, mi_mailbox_growth(box), 0);
    mi_mailbox_wait_growth(box, mi_mailbox_growth(box), 1);
    mi_mailbox_wait_growth(box, mi_mailbox_growth(box), 60);
    CHECK(check_seconds() - begin >= 0.06 && check_seconds() - begin < 5);
    begin = check_seconds();
    mi_mailbox_wait_growth(box, mi_mailbox_growth(box), 1100);
    CHECK(check_seconds() - begin >= 1.1 && check_seconds() - begin < 6);
    CHECK(mi_mailbox_waiters(box) == 0);
    mi_mailbox_destroy(box);
}

static void test_sleep_time_limits_kept(void)
{
    struct mi_mailbox *box = private_box();
    uint32_t seen = mi_mailbox_kicks(box);
    double begin = check_seconds();

    mi_mailbox_sleep(box, seen, 20000);
    CHECK(check_seconds() - begin >= 0.02 && check_seconds() - begin < 5);
    mi_mailbox_sleep(box, seen, 0);
    mi_mailbox_kick(box);
    CHECK(mi_mailbox_kicks(box) != seen);
    begin = check_seconds();
    mi_mailbox_sleep(box, seen, 10000000);
    mi_mailbox_sleep(box, seen, -1);
    CHECK(check_seconds() - begin < 5);
    mi_mailbox_destroy(box);
}

static void test_post_detach_kick_implied(void)
{
    struct mi_mailbox *box = private_box();
    uint32_t seen = mi_mailbox_kicks(box);

    CHECK(mi_mailbox_post(box, "x", 1) == 1);
    CHECK(mi_mailbox_kicks(box) != seen);
    seen = mi_mailbox_kicks(box);
    mi_mailbox_detach(box);
    CHECK(mi_mailbox_kicks(box) != seen);
    mi_mailbox_destroy(box);
}

/* ---- what the node knows
 * ---------------------------------------------------- */

static void test_stream_only_forward(void)
{
    struct mi_mailbox *box = private_box();
    uint32_t seen = mi_mailbox_growth(box);

    CHECK(mi_mailbox_stream(box) == MI_STREAM_OPEN);
    mi_mailbox_set_stream(box, MI_STREAM_OPEN);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_OPEN);
    mi_mailbox_set_stream(box, MI_STREAM_FULL);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_FULL);
    CHECK(mi_mailbox_growth(box) != seen); /* who waits is told */
    mi_mailbox_set_stream(box, MI_STREAM_OPEN);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_FULL);
    seen = mi_mailbox_growth(box);
    mi_mailbox_set_stream(box, MI_STREAM_GONE);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_GONE);
    CHECK(mi_mailbox_growth(box) != seen);
    mi_mailbox_set_stream(box, MI_STREAM_FULL);
    mi_mailbox_set_stream(box, MI_STREAM_OPEN);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_GONE);
    mi_mailbox_destroy(box);
    box = private_box();
    mi_mailbox_set_stream(box, MI_STREAM_GONE);
    CHECK(mi_mailbox_stream(box) == MI_STREAM_GONE);
    mi_mailbox_destroy(box);
}

static void test_first_true_once_per_bit(void)
{
    struct mi_mailbox *box = private_box();

    for (int again = 0; again < 3; again++)
        for (unsigned bit = 0; bit < 32; bit++)
            CHECK(mi_mailbox_first(box, bit) == (again == 0));
    mi_mailbox_destroy(box);
}

static void test_mirror_set_once_seen(void)
{
    struct mi_mailbox *box = shared_box("mirror"), *mate = NULL;
    char *path = calloc(1, PATH_MAX + 2);

    check_need(path != NULL, "memory");
    CHECK(mi_mailbox_open(&mate, scratch_dir, "mirror", NULL) == 0);
    CHECK(strcmp(mi_mailbox_mirror(box), "") == 0);
    memset(path, '/', PATH_MAX);
    mi_mailbox_set_mirror(box, path); /* too long */
    CHECK(strcmp(mi_mailbox_mirror(box), "") == 0);
    path[PATH_MAX - 1] = '\0';
    mi_mailbox_set_mirror(box, path); /* the longest */
    CHECK(strcmp(mi_mailbox_mirror(mate), path) == 0);
    mi_mailbox_destroy(mate);
    mi_mailbox_destroy(box);
    unlinkat(scratch_dir, "mirror", 0);
    free(path);
}

/* ---- processes
 * --------------------------------------------------------------- */

#define MATES 3
#define ASKS 200

static int act_as_mate(void *arg)
{
    struct mi_mailbox *box = NULL;
    unsigned id = *(const unsigned *)arg;
    uint32_t seen;
    unsigned first = 0;

    CHECK(mi_mailbox_open(&box, scratch_dir, "node", NULL) == 0);
    if (!box)
        return 0;
    for (unsigned i = 0; i < ASKS; i++) {
        unsigned message[2] = {id, i};

        while (!mi_mailbox_post(box, message, sizeof(message)))
            sched_yield();
    }
    for (unsigned bit = 0; bit < 32; bit++)
        first += (unsigned)mi_mailbox_first(box, bit);
    while (!mi_mailbox_post(box, &first, sizeof(first)))
        sched_yield();
    do {
        seen = mi_mailbox_growth(box);
        if (mi_mailbox_stream(box) == MI_STREAM_OPEN)
            mi_mailbox_wait_growth(box, seen, 100);
    } while (mi_mailbox_stream(box) == MI_STREAM_OPEN);
    CHECK(strcmp(mi_mailbox_mirror(box), "/mirror/of/the node") == 0);
    mi_mailbox_detach(box);
    mi_mailbox_destroy(box);
    return 0;
}

static void test_processes_all_asks_taken(void)
{
    struct mi_mailbox *box = shared_box("node");
    static unsigned ids[MATES];
    unsigned asks[MATES] = {0}, first = 0, firsts = 0, message[2];
    unsigned count = 0;
    unsigned char *out = buffer();
    double end = check_seconds() + 15;
    pid_t child[MATES];
    size_t size;
    uint32_t seen;

    for (unsigned i = 0; i < MATES; i++) {
        ids[i] = i;
        child[i] = check_fork(act_as_mate, &ids[i]);
    }
    /* In any order: what was posted last may be taken first. */
    while (count < MATES * (ASKS + 1) && check_seconds() < end) {
        seen = mi_mailbox_kicks(box);
        size = mi_mailbox_take(box, out);
        count += size > 0;
        if (size == sizeof(message)) {
            memcpy(message, out, size);
            CHECK(message[0] < MATES && message[1] < ASKS);
            asks[message[0] % MATES]++;
        } else if (size == sizeof(unsigned)) {
            first += *(unsigned *)(void *)out;
            firsts++;
        } else {
            mi_mailbox_sleep(box, seen, 100000);
        }
    }
    CHECK(firsts == MATES && first == 32);
    for (int i = 0; i < MATES; i++)
        CHECK(asks[i] == ASKS);
    mi_mailbox_set_mirror(box, "/mirror/of/the node");
    mi_mailbox_set_stream(box, MI_STREAM_GONE);
    for (int i = 0; i < MATES; i++)
        check_join_child(child[i], __func__);
    CHECK(mi_mailbox_detached(box) == MATES);
    CHECK(mi_mailbox_waiters(box) == 0);
    mi_mailbox_destroy(box);
    unlinkat(scratch_dir, "node", 0);
    free(out);
}

/* ---- files
 * -------------------------------------------------------------------- */

static void expect_no_mailbox(const char *about, int domain, int code)
{
    struct mi_mailbox *box = NULL;
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(about, mi_mailbox_open(&box, scratch_dir, "no", &err) == -1);
    CHECK_FOR(about, (int)err.domain == domain && err.code == code);
    CHECK_FOR(about, err.text[0] && !box);
    mi_mailbox_destroy(box);
}

static void test_open_no_mailbox_refused(void)
{
    struct mi_mailbox *box = shared_box("no"), *other = NULL;
    struct mi_error err;
    struct stat status;
    char path[PATH_MAX], *bytes;
    size_t size;

    check_join(path, scratch, "no");
    CHECK(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600);
    CHECK(mi_mailbox_create(&other, scratch_dir, "no", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EEXIST && !other);
    size = (size_t)status.st_size;
    mi_mailbox_destroy(box);
    CHECK(truncate(path, (off_t)size - 1) == 0);
    expect_no_mailbox("short", MI_FORMAT, EBADMSG);
    bytes = calloc(1, size);
    check_need(bytes != NULL, "memory");
    check_write(path, bytes, size);
    expect_no_mailbox("zeros", MI_FORMAT, EBADMSG);
    check_write(path, bytes, 0);
    expect_no_mailbox("empty", MI_FORMAT, EBADMSG);
    free(bytes);
    unlink(path);
    expect_no_mailbox("absent", MI_ERRNO, ENOENT);
    check_need(symlink("other", path) == 0, path);
    expect_no_mailbox("symbolic link", MI_ERRNO, ELOOP);
    CHECK(mi_mailbox_create(&other, scratch_dir, "no", &err) == -1 && !other);
    unlink(path);
    check_need(mkdir(path, 0700) == 0, path);
    expect_no_mailbox("directory", MI_ERRNO, EISDIR);
    rmdir(path);
    CHECK(mi_mailbox_create(&other, -1, "no", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EBADF && !other);
}

static void test_open_foreign_owner_refused(void)
{
    if (geteuid() != 0) {
        check_skipped(__func__, "only root can give files away");
        return;
    }
    mi_mailbox_destroy(shared_box("no"));
    check_need(fchownat(scratch_dir, "no", 65534, 65534, 0) == 0, "chown");
    expect_no_mailbox("foreign", MI_ERRNO, EPERM);
    unlinkat(scratch_dir, "no", 0);
}

static int create_on_full_filesystem(void *arg)
{
    struct mi_mailbox *box = NULL;
    struct mi_error err;
    int dir;

    if (!check_small_tmpfs(arg, 64))
        return CHECK_SKIP;
    dir = open(arg, O_RDONLY | O_DIRECTORY);
    CHECK(mi_mailbox_create(&box, dir, "mailbox", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC && !box);
    CHECK(check_entries(arg) == 0);
    close(dir);
    return 0;
}

static void test_create_filesystem_full_refused(void)
{
    char path[PATH_MAX];

    check_need(mkdir(check_join(path, scratch, "small"), 0700) == 0, path);
    if (!check_child(create_on_full_filesystem, path, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    rmdir(path);
}

int main(void)
{
    check_scratch(scratch);
    scratch_dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_need(scratch_dir >= 0, scratch);
    test_take_nothing_posted_nothing();
    test_post_each_size_taken_same();
    test_post_all_slots_taken_refused();
    test_post_longest_ask_unpacked();
    test_take_hostile_size_ignored();
    test_growth_counted();
    test_wait_growth_grown_before_returns();
    test_wait_growth_nothing_times_out();
    test_sleep_time_limits_kept();
    test_post_detach_kick_implied();
    test_stream_only_forward();
    test_first_true_once_per_bit();
    test_mirror_set_once_seen();
    test_processes_all_asks_taken();
    test_open_no_mailbox_refused();
    test_open_foreign_owner_refused();
    test_create_filesystem_full_refused();
    close(scratch_dir);
    CHECK(check_entries(scratch) == 0);
    check_remove(scratch);
    return check_report();
}
