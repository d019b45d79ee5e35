/* The filesystem at its mount point, and the threads that serve it. */
#ifndef SLOW_SESSION_H
#define SLOW_SESSION_H

/* Mount and serve.  The process gets SIGTERM if somebody else unmounts it.
 * Returns 0, or -1 after a message on stderr.  Once only.
 */
int slow_session_start(const char *mountpoint);

/* Have the kernel drop the pages that it still has of all files. */
void slow_session_drop_pages(void);

/* Unmount, also what is in use.  The threads go on waiting: end the process.
 */
void slow_session_end(void);

#endif
