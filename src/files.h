/* The questions of an import system, put to the filesystem.
 *
 * Each call answers one question by struct mi_entry plus owned payload.  "Not
 * there", "not allowed" and the like are answers (MI_KIND_ABSENT with errno
 * as its code), not errors; -1 means that no answer could be made (ENOMEM).
 * Thread-safe; used on root, and by a rank that reads for itself.
 */
#ifndef MI_FILES_H
#define MI_FILES_H

#include <stdint.h>
#include <sys/stat.h>

#include "dirs.h"
#include "error.h"
#include "store.h"

/* How a .pyc is judged.  Source: PEP 3147, PEP 552. */
struct mi_bytecode {
    unsigned char magic[4];
    char check_hash; /* 'd' default, 'a' always, 'n' never (PEP 552) */
};

struct mi_answer {
    struct mi_entry entry; /* key and payload are borrowed / owned below */
    void *data;            /* the payload, a block; NULL if there is none */
};

/* Have the members for a file's status say what 'status' does. */
void mi_entry_status(struct mi_entry *entry, const struct stat *status);

void mi_answer_clear(struct mi_answer *answer);

/* 'path' is absolute and terminated; answer->entry.key points to it.  What is
 * in a directory that was listed is looked up from there ('dirs').
 */
int mi_files_list(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err);
int mi_files_stat(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err);
/* Of a symbolic link itself, with where it leads to. */
int mi_files_lstat(struct mi_dirs *dirs, const char *path,
                   struct mi_answer *answer, struct mi_error *err);
/* The path without symbolic links: a STAT whose payload is that path. */
int mi_files_real(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err);
/* Regular files only (EISDIR; EINVAL for others: a FIFO would block), of up to
 * 'most' bytes, and up to 1 GiB: MI_READ_REFUSED for larger ones.  The size is
 * that of what was read.
 */
int mi_files_read(struct mi_dirs *dirs, const char *path, uint64_t most,
                  struct mi_answer *answer, struct mi_error *err);
/* Bytecode for the source file 'path' from the file 'cached' (may be ""; then
 * there is none).  Costs two operations: a status and an open.
 * FILE: the whole .pyc, valid for the source as it is now; ABSENT with
 * MI_CODE_PENDING: the source is there and has to be compiled (or the .pyc
 * must be judged by hashing the source); ABSENT with errno: no source.
 */
int mi_files_code(struct mi_dirs *dirs, const struct mi_bytecode *rule,
                  const char *path, const char *cached,
                  struct mi_answer *answer, struct mi_error *err);

#endif
