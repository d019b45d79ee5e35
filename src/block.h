/* Blocks: memory for what is read.
 *
 * As malloc(3), but for the larger ones, which are mapped: threads have arenas
 * of their own there, and what is freed at their top is never given back.
 */
#ifndef MI_BLOCK_H
#define MI_BLOCK_H

#include <stddef.h>

/* 'size' bytes of any content; NULL with errno. */
void *mi_block_new(size_t size);
/* The same content in a block of another size, which may be another one.  NULL
 * with errno, and the block as it was.  NULL is an empty block.
 */
void *mi_block_resize(void *block, size_t size);
/* NULL is allowed.  Keeps errno. */
void mi_block_free(void *block);

/* Have the calling thread keep up to six blocks that it frees, for the next
 * ones, of which each takes 256 KiB of address space then; or (0) keep none,
 * before it ends.
 */
void mi_block_keep(int keep);

#endif
