/* What the dynamic linker has loaded into this process, by SONAME.
 *
 * The linker takes what has the SONAME that is asked for, wherever it came
 * from, and looks for nothing.  Source: System V ABI chapter 5,
 * dl_iterate_phdr(3).
 */
#ifndef MI_LOADED_H
#define MI_LOADED_H

/* Is an object with that SONAME loaded?  Thread-safe. */
int mi_loaded_has(const char *soname);

/* Is an object loaded that was opened by that path?  Thread-safe. */
int mi_loaded_from(const char *path);

/* How many objects have been unloaded so far.  Thread-safe. */
unsigned long long mi_loaded_gone(void);

/* The SONAMEs of all that is loaded now: a list (src/list.h), which the caller
 * clears.  NULL with errno without memory.
 */
char **mi_loaded_list(void);

#endif
