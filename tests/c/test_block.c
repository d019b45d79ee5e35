/* Tests of src/block.c. */
#include "check.h"

#include <pthread.h>
#include <stdint.h>

#include "../../src/block.h"

#define MIB (1u << 20)

static const size_t sizes[] = {0,
                               1,
                               127,
                               128,
                               4095,
                               4096,
                               4097,
                               64 << 10,
                               MIB,
                               256 << 10,
                               (256 << 10) - 16};
enum { SIZES = sizeof(sizes) / sizeof(*sizes) };

static void fill(unsigned char *block, size_t from, size_t size)
{
    for (size_t i = from; i < size; i++)
        block[i] = (unsigned char)(i * 7 + 1);
}

static int is_filled(const unsigned char *block, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != (unsigned char)(i * 7 + 1))
            return 0;
    return 1;
}

/* Each of any size, all at once: none lies on another. */
static void *use_all(void *arg)
{
    unsigned char *blocks[SIZES];

    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < SIZES; i++) {
            blocks[i] = mi_block_new(sizes[i]);
            check_need(blocks[i] != NULL, "memory");
            CHECK((uintptr_t)blocks[i] % _Alignof(max_align_t) == 0);
            fill(blocks[i], 0, sizes[i]);
        }
        for (int i = 0; i < SIZES; i++) {
            CHECK(is_filled(blocks[i], sizes[i]));
            mi_block_free(blocks[i]);
        }
    }
    return arg;
}

static void *use_all_and_keep(void *arg)
{
    mi_block_keep(1);
    use_all(arg);
    mi_block_keep(0);
    return arg;
}

static void test_resized_content_stays(void)
{
    for (int keep = 0; keep < 2; keep++) {
        unsigned char *block = NULL;
        size_t before = 0;

        mi_block_keep(keep);
        for (size_t size = 1; size < 2 * MIB; size = size * 3 / 2 + 1) {
            block = mi_block_resize(block, size);
            check_need(block != NULL, "memory");
            CHECK(is_filled(block, before));
            fill(block, before, size);
            before = size;
        }
        block = mi_block_resize(block, 100);
        CHECK(is_filled(block, 100));
        mi_block_free(block);
        mi_block_keep(0);
    }
}

/* With the address sanitizer all are malloc(3)'s, and what is too large ends
 * the program.
 */
#ifndef __SANITIZE_ADDRESS__
static void test_too_large(void)
{
    char *block = mi_block_new(10);

    errno = 0;
    CHECK(!mi_block_new(SIZE_MAX) && errno == ENOMEM);
    CHECK(!mi_block_new(SIZE_MAX / 2 - 64) && errno == ENOMEM);
    CHECK(!mi_block_resize(block, SIZE_MAX));
    errno = EDOM;
    mi_block_free(block);
    mi_block_free(NULL);
    CHECK(errno == EDOM);
}

static size_t mapped(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    check_need(file && fscanf(file, "%lu", &pages) == 1, "/proc/self/statm");
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void test_large_ones_given_back(void)
{
    size_t before = mapped();
    char *block = mi_block_new(8 * MIB);

    CHECK(mapped() >= before + 8 * MIB);
    mi_block_free(block);
    CHECK(mapped() < before + MIB);
}

static void test_kept_until_told(void)
{
    size_t before = mapped();
    char *block, *again, *other;

    mi_block_keep(1);
    block = mi_block_new(1000);
    other = mi_block_new(1000);
    CHECK(block != other);
    mi_block_free(block);
    again = mi_block_new(100 << 10);
    CHECK(again == block);
    mi_block_free(again);
    mi_block_free(other);
    CHECK(mapped() >= before + (512 << 10));
    mi_block_keep(0);
    CHECK(mapped() < before + (256 << 10));
}
#endif

int main(void)
{
    pthread_t thread[4];

    use_all(NULL);
    for (int i = 0; i < 4; i++)
        check_need(pthread_create(&thread[i], NULL, use_all_and_keep, NULL) ==
                       0,
                   "thread");
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    test_resized_content_stays();
#ifndef __SANITIZE_ADDRESS__
    test_too_large();
    test_large_ones_given_back();
    test_kept_until_told();
#endif
    return check_report();
}
