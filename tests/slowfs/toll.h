/* What a request costs: the time that the server takes, on its two queues, and
 * the client's.
 *
 * All calls but slow_toll_parse() and slow_toll_calibrate() are thread-safe.
 */
#ifndef SLOW_TOLL_H
#define SLOW_TOLL_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "census.h"

/* Set what "meta-us=N,rtt-us=N,mbps=N,cache-ms=N" says, N whole numbers up to
 * a million; 'text' is changed.  Returns 0, or -1 if it says something else.
 */
int slow_toll_parse(char *text);

/* Measure what a request to the filesystem at 'mountpoint', served by this
 * process, takes at least without a server; later ones wait that much less.
 * From now on slow_toll_timeout() is what cache-ms says.
 */
void slow_toll_calibrate(const char *mountpoint);

/* Count a request of a thread, and give it to the server: anything but a read,
 * and a read of so many bytes.  Returns when the answer is due (queue.h), 0 if
 * it costs no time.
 */
int64_t slow_toll_meta(pid_t thread, enum slow_kind kind);
int64_t slow_toll_data(pid_t thread, size_t bytes);

/* Seconds for which the kernel may remember names and attributes. */
double slow_toll_timeout(void);

/* Print how long the servers were busy since the last reset, and what
 * slow_toll_calibrate() has found, as members of a JSON object.
 */
void slow_toll_print(FILE *stream);
void slow_toll_reset(void);

#endif
