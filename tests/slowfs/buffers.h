/* Memory for one read each, used again and again: new memory costs as much as
 * the copying into it.  All calls are thread-safe.
 */
#ifndef SLOW_BUFFERS_H
#define SLOW_BUFFERS_H

#define SLOW_LARGEST_READ 1048576 /* bytes in one request */

/* Return SLOW_LARGEST_READ bytes, the last that were given back if there are
 * any; NULL without memory.
 */
char *slow_buffers_take(void);
void slow_buffers_give(char *buffer);

#endif
