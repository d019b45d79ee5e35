#include "block.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__ /* which knows the ends of malloc's blocks */
#define LARGE SIZE_MAX
#define SMALL SIZE_MAX
#else
#define LARGE ((size_t)64 << 10) /* bytes from which a block is mapped */
#define SMALL ((size_t)128)      /* the same in a thread that keeps blocks */
#endif

#define KEPT ((size_t)256 << 10) /* bytes of those that are kept */
#define SPARES 6                 /* as many as a look at bytecode takes */

/* Before each block. */
struct head {
    _Alignas(max_align_t) size_t size; /* with this */
};

static _Thread_local int keeps;
static _Thread_local struct head *spare[SPARES];
static _Thread_local int spares;

static struct head *head_of(void *block)
{
    return (struct head *)block - 1;
}

static int is_mapped(const struct head *head)
{
    return head->size >= LARGE;
}

static struct head *map(size_t size)
{
    struct head *head;

    if (spares > 0 && size <= KEPT)
        return spare[--spares];
    if (keeps && size < KEPT)
        size = KEPT;
    head = mmap(NULL, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (head == MAP_FAILED)
        return NULL;
    head->size = size;
    return head;
}

static void unmap(struct head *head)
{
    if (keeps && spares < SPARES && head->size == KEPT)
        spare[spares++] = head;
    else
        munmap(head, head->size);
}

void *mi_block_new(size_t size)
{
    struct head *head;

    if (size > PTRDIFF_MAX - sizeof(*head)) {
        errno = ENOMEM;
        return NULL;
    }
    size += sizeof(*head);
    if (size >= (keeps ? SMALL : LARGE)) {
        head = map(size);
    } else {
        head = malloc(size);
        if (head)
            head->size = size;
    }
    return head ? head + 1 : NULL;
}

void *mi_block_resize(void *block, size_t size)
{
    struct head *head = block ? head_of(block) : NULL;
    size_t before = block ? head->size - sizeof(*head) : 0;
    void *other;

    if (block && is_mapped(head) && size <= before)
        return block;
    other = mi_block_new(size);
    if (other && block) {
        memcpy(other, block, before < size ? before : size);
        mi_block_free(block);
    }
    return other;
}

void mi_block_free(void *block)
{
    int saved = errno;
    struct head *head;

    if (!block)
        return;
    head = head_of(block);
    if (is_mapped(head))
        unmap(head);
    else
        free(head);
    errno = saved;
}

void mi_block_keep(int keep)
{
    keeps = keep;
    while (!keep && spares > 0)
        unmap(spare[--spares]);
}
