/* Which manifest a run has: of which program, interpreter and environment.
 *
 * Lexical: no file is looked at.  The number of ranks, the program's arguments
 * and, for -m and -c, the working directory are no part of it: the same
 * modules are needed anyhow.
 */
#ifndef MI_IDENTITY_H
#define MI_IDENTITY_H

#include "error.h"
#include "files.h"
#include "options.h"

struct mi_identity {
    char *path; /* of the manifest, absolute; NULL: none */
    char *key;  /* readable lines, for the file; NULL without 'path' */
};

/* 'python' is the interpreter's path, 'rule' its bytecode, 'optimize' how many
 * -O.  Variables are asked through 'get' (getenv(3)).  There is no manifest
 * with --manifest none, --direct, --strategy none; without --manifest FILE
 * also for a program from standard input and where neither XDG_CACHE_HOME nor
 * HOME is an absolute path.  The caller clears in any case.  Returns 0, or -1
 * with 'err' (ENOMEM).  Local.
 */
int mi_identity_make(struct mi_identity *identity,
                     const struct mi_options *options, const char *python,
                     const struct mi_bytecode *rule, int optimize,
                     char *(*get)(const char *name), struct mi_error *err);

/* Repeating it does no harm. */
void mi_identity_clear(struct mi_identity *identity);

#endif
