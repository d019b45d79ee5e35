/* The files that the kernel knows, each behind an O_PATH descriptor.
 *
 * A node lives as long as the kernel remembers it: lookups that were answered
 * count up, what it forgets counts down.  One node per file (device and
 * inode), by whichever name it was reached.  All calls are thread-safe.
 */
#ifndef SLOW_NODES_H
#define SLOW_NODES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Open the directory that is the root.  Returns 0 or an errno. */
int slow_nodes_start(const char *path);

/* The descriptor of a node, which stays the node's.  'id' is one that the
 * kernel has not forgotten: 1 for the root, or from slow_nodes_lookup().
 */
int slow_nodes_fd(uint64_t id);

/* Look for 'name' in the directory 'parent', and remember one lookup more of
 * the file.  Symbolic links are not followed.  Returns 0 with *id and *status
 * filled, or an errno.
 */
int slow_nodes_lookup(uint64_t parent, const char *name, uint64_t *id,
                      struct stat *status);

/* Forget 'count' lookups of the node. */
void slow_nodes_forget(uint64_t id, uint64_t count);

/* All nodes but the root, and how many; the caller frees them.  NULL without
 * memory.
 */
uint64_t *slow_nodes_list(size_t *count);

#endif
