/* A job: the ranks of MPI_COMM_WORLD, their node stores and pumps.
 *
 * Joins the floors below into what the importer needs: start (collective),
 * ask (local), end (collective).  One per process.
 */
#ifndef MI_JOB_H
#define MI_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "ahead.h"
#include "asked.h"
#include "clock.h"
#include "error.h"
#include "files.h"
#include "format.h"
#include "limit.h"
#include "mpimin.h"

struct mi_job;

enum mi_launcher {
    MI_LAUNCHER_SCRIPT = 0, /* python-mpi.py, or by hand */
    MI_LAUNCHER_NATIVE = 1
};

/* Strings are borrowed for the call of mi_job_start(); NULL is a default. */
struct mi_job_config {
    const char *mpi;    /* which library: mpimin_open() */
    const char *libdir; /* the environment's lib/: mpimin_open() */
    const char *tmpdir; /* absolute; where node stores live: "/dev/shm" */
    char *const *share; /* prefixes of the tree, and of what is the node's */
    char *const *local; /* own: mi_prefixes_shared(); lists, or NULL */
    /* Memory of a node for store and mirror; zero: nothing is mirrored, and
     * the store is not limited.
     */
    struct mi_limit max_store;
    int ranks_per_node; /* 0: as the machine is; k: every k ranks a node */
    int readers;        /* threads of root's pool; 0: 16 */
    int direct;         /* every rank reads for itself: no stores, no pumps */
    int grace;          /* milliseconds before a rank asks; 0: 2 */
    int patience;       /* seconds before a rank gives up; 0: 60 */
    int thread; /* highest enum mpimin_thread to ask for; -1: MULTIPLE */
    int report; /* gather the ranks' numbers at the end */
    /* Rank 0: what the next run is to read ahead, and of what program it is
     * (mi_identity_make()); NULL: no manifest.
     */
    const char *manifest;
    const char *manifest_key;
    struct mi_bytecode rule;
    /* Used only to see that all ranks have the same, as they have to have of
     * 'direct', 'report' and 'rule', too: */
    enum mi_launcher launcher;
    int strategy; /* enum mi_strategy */
    int no_site;  /* the user's -S */
    int optimize; /* how many -O */
};

/* What became of the manifest; on rank 0. */
struct mi_job_manifest {
    const char *path; /* lives as long as the process; NULL: there is none */
    struct mi_asked_count count;
    uint64_t replayed; /* questions that were read ahead */
    int written;       /* at the end */
};

/* What a rank has to say at the end; gathered as bytes, one machine. */
struct mi_numbers {
    uint64_t nanoseconds[MI_PHASES];
    uint64_t counts[MI_PHASES];
    uint64_t run;          /* of the program itself, nanoseconds */
    uint64_t bytes_read;   /* from the tree, by this rank's reader */
    uint64_t bytes_sent;   /* root: what its pump has broadcast */
    uint64_t operations;   /* on the tree, by this rank's reader */
    uint64_t avoided;      /* answered from the store instead */
    uint64_t store_bytes;  /* leaders: memory of the node store */
    uint64_t mirror_bytes; /* leaders: objects in the mirror */
    int32_t rank;
    int32_t node; /* number of the node, from 0 */
    int32_t present;
    char host[68];
};

/* Initialise MPI unless that is done, form nodes, make the stores and start
 * the pumps.  Collective over MPI_COMM_WORLD.  A store that cannot be made is
 * not an error: that node loads directly, and there is a notice.  Ranks with
 * different options are one (EINVAL, on all of them): they would wait for each
 * other, or get code compiled for others.  On failure
 * *job (unless NULL) is good for mi_job_abort() only.
 */
int mi_job_start(struct mi_job **job, const struct mi_job_config *config,
                 struct mi_error *err);

int mi_job_rank(const struct mi_job *job);
int mi_job_size(const struct mi_job *job);
/* Does this rank read the tree (for others, or because nobody else does)? */
int mi_job_source(const struct mi_job *job);
/* Can every question be answered still: neither a forked child, nor the end
 * of the job or of the stream?
 */
int mi_job_open(const struct mi_job *job);
/* Does every rank read for itself? */
int mi_job_direct(const struct mi_job *job);
/* Are questions answered here at all (0: load directly)? */
int mi_job_stored(const struct mi_job *job);

/* ---- questions (local, any thread) -------------------------------------- */

/* Answer a question from the store, from the tree (where this rank is the
 * source), or by waiting for root.  'key' is absolute; 'extra' is "" or, for
 * MI_CODE, the .pyc's path.  Returns 1 with *record, which lives as long as
 * the process; 0 if nobody can answer, so that the caller has to read for
 * himself; -1 on errors.  Phases IO and COMM are entered as needed.
 */
int mi_job_ask(struct mi_job *job, enum mi_query query, const char *key,
               const char *extra, const struct mi_record **record,
               struct mi_error *err);
/* For a rank that is alone: the contents of a file (MI_READ, MI_CODE), which
 * nobody else needs in a store.  1 with 'answer' to be cleared, 0 or -1 as
 * above.
 */
int mi_job_read(struct mi_job *job, enum mi_query query, const char *key,
                const char *extra, struct mi_answer *answer,
                struct mi_error *err);
/* Only look into the store. */
const struct mi_record *mi_job_find(const struct mi_job *job,
                                    enum mi_query query, const char *key);
/* For the manifest: the program uses an answer of mi_job_find(), or needs
 * what is not asked here (a rank that is alone).
 */
void mi_job_used(struct mi_job *job, const struct mi_record *record);
void mi_job_needs(struct mi_job *job, enum mi_query query, const char *key);
/* mi_asked_own(), for the program's directory on the search path. */
void mi_job_own(struct mi_job *job, const char *directory);
/* Publish an answer made by this source: compiled code, or anything else that
 * the others are to find.  1, 0, -1 as above.
 */
int mi_job_publish(struct mi_job *job, const struct mi_entry *entry,
                   struct mi_error *err);
/* The interpreter is up: from now on as many threads read as make sense, where
 * it was one.
 */
void mi_job_hurry(struct mi_job *job);
/* Source: have the pool read ahead what the others are about to ask; the next
 * run's manifest has it even if none of them comes too early and asks.
 * Elsewhere nothing happens.
 */
int mi_job_prefetch(struct mi_job *job, enum mi_query query, const char *key,
                    const char *extra, struct mi_error *err);
/* Source of a job of several ranks: as mi_reader_foresee(), mi_reader_path()
 * and mi_reader_program().  Elsewhere nothing happens.
 */
int mi_job_foresee(struct mi_job *job, const struct mi_ahead_rules *rules,
                   char *const *path, struct mi_error *err);
int mi_job_path(struct mi_job *job, char *const *path, struct mi_error *err);
int mi_job_foresee_program(struct mi_job *job, const void *code, size_t size,
                           struct mi_error *err);
/* Where the mirror has the object of that record, in 'path' (PATH_MAX): 1, or
 * 0 if it has none.
 */
int mi_job_mirrored(const struct mi_job *job, const struct mi_record *record,
                    char *path);
/* mi_preload_open() and mi_preload_close(). */
void *mi_job_preload(struct mi_job *job, const struct mi_record *record,
                     int self, int flags, struct mi_error *err);
void mi_job_preload_close(void *handle);
/* Does the absolute 'path' lie on the shared tree; has the user said so? */
int mi_job_shared(const struct mi_job *job, const char *path);
int mi_job_named(const struct mi_job *job, const char *path);
/* As mi_reader_compile(); 0 also where this rank is no source. */
int mi_job_compile(struct mi_job *job, char *path);
/* Count operations that stock Python would have made. */
void mi_job_avoid(struct mi_job *job, unsigned operations);

/* ---- collectives of the start-up and of the user ------------------------ */

/* Over a private copy of MPI_COMM_WORLD; main thread only. */
int mi_job_barrier(struct mi_job *job, struct mi_error *err);
int mi_job_bcast(struct mi_job *job, void *bytes, size_t size, int root,
                 struct mi_error *err);
/* Bytes of which only the root knows how many: *bytes, from malloc(3) and
 * writable, and *size are the root's to set, and set on the others.  The
 * caller frees.  On failure elsewhere than on the root *bytes is NULL.
 */
int mi_job_bcast_blob(struct mi_job *job, void **bytes, uint64_t *size,
                      int root, struct mi_error *err);

/* ---- messages ----------------------------------------------------------- */

/* Take a line that the user should see into 'text'; 0 if there is none.  Each
 * is said once per node.
 */
int mi_job_notice(struct mi_job *job, char *text, size_t size);
/* Say something once per node ('first' is one of MI_FIRST_...). */
void mi_job_say(struct mi_job *job, unsigned first, const char *text);
/* Which kind of MPI library the job has. */
enum mpimin_family mi_job_family(const struct mi_job *job);
/* Is this the first rank of its node with an uncaught exception? */
int mi_job_first_crash(struct mi_job *job);

/* ---- the end ------------------------------------------------------------ */

/* The program begins now: the end of BOOT. */
void mi_job_program(struct mi_job *job);
/* The numbers of this rank so far. */
void mi_job_numbers(struct mi_job *job, struct mi_numbers *numbers);

/* Serve the others until everybody is here, gather the numbers, finalise MPI
 * if nobody has, and write the manifest.  Collective; repeating it does no
 * harm.  In a forked child nothing happens.
 */
int mi_job_finish(struct mi_job *job, struct mi_error *err);
/* Numbers of rank i, gathered by mi_job_finish() on rank 0 (where 'report' was
 * set), or NULL if it did not answer.
 */
const struct mi_numbers *mi_job_gathered(const struct mi_job *job, int i);

/* What this rank's reader could not put into the mirror or the store, so that
 * every rank loads it directly: entry number i, 1, or 0 past the last.  The
 * strings live as long as the process.  Only so many are kept (refused.h), all
 * are counted.
 */
int mi_job_refused(const struct mi_job *job, int i, const char **path,
                   const char **why);
uint64_t mi_job_refused_count(const struct mi_job *job);

/* After mi_job_finish(). */
void mi_job_get_manifest(struct mi_job *job, struct mi_job_manifest *manifest);

/* Remove what this rank keeps in memory filesystems.  The store stays mapped
 * and readable.  Local.
 */
void mi_job_remove(struct mi_job *job);
/* End all ranks with that exit status.  Removes first. */
_Noreturn void mi_job_abort(struct mi_job *job, int status);

/* Is this a forked child of the process that started the job? */
int mi_job_forked(void);

#endif
