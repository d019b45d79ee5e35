/* An opened directory, read as the kernel asks for it. */
#ifndef SLOW_DIRECTORY_H
#define SLOW_DIRECTORY_H

#define FUSE_USE_VERSION 31

#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/types.h>

/* Open the directory 'path'.  Returns 0 with *handle to be closed by
 * slow_directory_close(), or an errno.
 */
int slow_directory_open(const char *path, uint64_t *handle);
void slow_directory_close(uint64_t handle);

/* Fill 'buffer' with the entries from 'offset' on, as many as 'size' bytes
 * hold.  Returns the bytes used, 0 at the end, or -1 with errno set.
 */
ssize_t slow_directory_read(uint64_t handle, fuse_req_t request, off_t offset,
                            char *buffer, size_t size);

#endif
