/* What the kernel asks of the filesystem, answered from the source directory
 * behind slow_nodes_start(), late as toll.h says.
 */
#ifndef SLOW_REQUESTS_H
#define SLOW_REQUESTS_H

#define SLOW_LARGEST_READ 1048576 /* bytes in one request */

#define FUSE_USE_VERSION 31

#include <fuse_lowlevel.h>
#include <stdbool.h>

/* For fuse_session_new(). */
extern const struct fuse_lowlevel_ops slow_requests;

/* Whether the answer that this thread sends next is the first of all, which
 * says what the filesystem can do; asked once.
 */
bool slow_requests_is_greeting(void);

#endif
