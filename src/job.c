#include "job.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "asked.h"
#include "budget.h"
#include "dirs.h"
#include "elf.h"
#include "list.h"
#include "loaded.h"
#include "mailbox.h"
#include "manifest.h"
#include "mirror.h"
#include "node.h"
#include "prefixes.h"
#include "preload.h"
#include "pump.h"
#include "reader.h"
#include "refused.h"
#include "store.h"

#define READERS 16
#define GRACE 2      /* milliseconds */
#define PATIENCE 60  /* seconds */
#define COMPILING 1  /* seconds that root may take to compile for others */
#define GATHERING 10 /* seconds for the numbers at the end */
#define ALONE ((size_t)1 << 30) /* bytes of address space for one rank */
#define NOTICES 8

struct mi_job {
    struct mpimin *mpi;
    struct mpimin_promise promise;
    int ours; /* we initialised MPI, so we finalise it */
    int rank, size;
    char *tmpdir; /* where node stores are made */
    char **share, **local;
    char **loaded; /* before MPI: what every rank has */
    int direct, report;
    uint64_t grace, patience; /* nanoseconds */
    atomic_uint lost; /* growth of the store when patience was over, plus 1 */
    mpimin_comm comm;
    struct mi_node node;
    struct mi_mirror *mirror;
    struct mi_budget budget;
    struct mi_refused *refused; /* by this rank's reader; NULL: none, alone */
    /* Rank 0: what earlier runs asked for, and this one does; or NULL. */
    char *manifest_path, *manifest_key;
    int64_t started; /* nanoseconds since the epoch, by the files' clock */
    struct mi_manifest manifest;
    struct mi_asked *asked;
    uint64_t replayed;
    int manifest_written;
    struct mi_preload *preload;
    struct mi_reader *reader; /* NULL: not a source */
    struct mi_pump *pump;
    atomic_int finished;
    atomic_uint_fast64_t avoided;
    uint64_t program;       /* when it began */
    uint64_t before;        /* ALL at that time */
    struct mi_numbers mine; /* on their way to rank 0 */
    struct mi_numbers *gathered;
    pthread_mutex_t lock; /* of the notices */
    char *notice[NOTICES];
    int notices;
};

static atomic_int forked;

static void after_fork(void)
{
    atomic_store(&forked, 1);
}

int mi_job_forked(void)
{
    return atomic_load(&forked);
}

/* ---- messages ----------------------------------------------------------- */

void mi_job_say(struct mi_job *job, unsigned first, const char *text)
{
    if (mi_job_forked() ||
        (job->node.mailbox && !mi_mailbox_first(job->node.mailbox, first)))
        return;
    pthread_mutex_lock(&job->lock);
    if (job->notices < NOTICES && (job->notice[job->notices] = strdup(text)))
        job->notices++;
    pthread_mutex_unlock(&job->lock);
}

/* What happens to the node's memory, with the directory that it is in; the
 * mirror may be in another, which it names itself.
 */
static void notice(void *arg, unsigned first, const char *text)
{
    struct mi_job *job = arg;
    char line[2 * PATH_MAX];

    if (first == MI_FIRST_MIRROR)
        snprintf(line, sizeof(line), "%s", text);
    else
        snprintf(line, sizeof(line), "%s: %s", job->tmpdir, text);
    mi_job_say(job, first, line);
}

int mi_job_notice(struct mi_job *job, char *text, size_t size)
{
    char *line = NULL;

    if (mi_job_forked())
        return 0; /* another thread may have held the lock at the fork */
    pthread_mutex_lock(&job->lock);
    if (job->notices > 0) {
        line = job->notice[0];
        job->notices--;
        memmove(job->notice, job->notice + 1,
                sizeof(*job->notice) * (size_t)job->notices);
    }
    pthread_mutex_unlock(&job->lock);
    if (!line)
        return 0;
    snprintf(text, size, "%s", line);
    free(line);
    return 1;
}

enum mpimin_family mi_job_family(const struct mi_job *job)
{
    return mpimin_family(job->mpi);
}

int mi_job_first_crash(struct mi_job *job)
{
    return !job->node.mailbox ||
           mi_mailbox_first(job->node.mailbox, MI_FIRST_CRASH);
}

/* ---- start -------------------------------------------------------------- */

static void on_finalize(void *arg);
static struct mi_preload *create_preload(const struct mi_job *job);

static int start_mpi(struct mi_job *job, const struct mi_job_config *config,
                     enum mpimin_thread *level, struct mi_error *err)
{
    enum mpimin_thread wish = config->thread < 0
                                  ? MPIMIN_THREAD_MULTIPLE
                                  : (enum mpimin_thread)config->thread;

    mpimin_promise_read(&job->promise, getenv);
    if (mpimin_open(&job->mpi, config->mpi, config->libdir, &job->promise,
                    err) != 0 ||
        mpimin_init(job->mpi, wish, &job->promise, level, &job->ours, err) !=
            0 ||
        mpimin_comm_dup(job->mpi, mpimin_world(job->mpi), &job->comm, err) !=
            0 ||
        mpimin_comm_rank(job->mpi, job->comm, &job->rank, err) != 0 ||
        mpimin_comm_size(job->mpi, job->comm, &job->size, err) != 0)
        return -1;
    return mpimin_on_finalize(job->mpi, on_finalize, job, err);
}

/* What all ranks must have alike, one byte each. */
static const char *const alike[] = {"-d",
                                    "--timing",
                                    "--strategy",
                                    "-S",
                                    "-O",
                                    "the launcher",
                                    "--check-hash-based-pycs"};

static int64_t fingerprint(const struct mi_job_config *config)
{
    const int values[] = {config->direct,         config->report,
                          config->strategy,       config->no_site,
                          config->optimize,       (int)config->launcher,
                          config->rule.check_hash};
    int64_t all = 0;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        all |= (int64_t)(values[i] & 0xff) << (8 * i);
    return all;
}

/* Have all ranks the same options?  mpiexec a : b can give different ones. */
static int agree(struct mi_job *job, const struct mi_job_config *config,
                 struct mi_error *err)
{
    int64_t min, max, mine = fingerprint(config);
    char names[200] = "";
    size_t used = 0;

    job->direct = config->direct;
    job->report = config->report;
    if (mpimin_minmax(job->mpi, mine, &min, &max, job->comm, err) != 0)
        return -1;
    if (min == max)
        return 0;
    for (size_t i = 0; i < sizeof(alike) / sizeof(alike[0]); i++)
        if (((min ^ max) >> (8 * i)) & 0xff)
            used += (size_t)snprintf(names + used, sizeof(names) - used,
                                     "%s%s", used ? ", " : "", alike[i]);
    if (job->rank > 0)
        sleep(1); /* rank 0 says it, and ends all */
    return mi_fail(err, MI_ERRNO, EINVAL,
                   "not all ranks were started with the same options (%s): "
                   "programs and arguments may differ between ranks, these "
                   "may not",
                   names);
}

static void say_direct(struct mi_job *job, const struct mi_error *why)
{
    char text[1400];

    snprintf(text, sizeof(text),
             "no node store: %s; modules are loaded directly from the "
             "filesystem (-T DIR chooses another directory for it)",
             why->text);
    notice(job, MI_FIRST_DIRECT, text);
}

/* As the kernel stamps files. */
static int64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Read what earlier runs of the program have asked for.  Rank 0; trouble is
 * said, and the job goes on.
 */
static int start_manifest(struct mi_job *job,
                          const struct mi_job_config *config,
                          struct mi_error *err)
{
    struct mi_error why;

    if (job->rank > 0 || !config->manifest)
        return 0;
    if (mi_manifest_read(&job->manifest, config->manifest,
                         config->manifest_key, &why) < 0)
        mi_job_say(job, MI_FIRST_MANIFEST, why.text);
    job->started = realtime();
    job->manifest_path = strdup(config->manifest);
    job->manifest_key = strdup(config->manifest_key);
    job->asked = mi_asked_create(&job->manifest);
    if (!job->manifest_path || !job->manifest_key || !job->asked)
        return mi_fail_errno(err, "manifest");
    return 0;
}

/* Have the pool read all of it, in the order of need, behind what is asked;
 * and nothing by guess.  A rank that is alone has no mirror.
 */
static void replay(struct mi_job *job)
{
    const struct mi_manifest *manifest = &job->manifest;
    struct mi_error err;

    if (manifest->count == 0)
        return;
    mi_reader_exact(job->reader);
    /* All ranks wait for rank 0's interpreter, which looks for its files at
     * the server, too: many readers there would hold it up.
     */
    mi_reader_hold(job->reader, 1);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct mi_question *question = &manifest->questions[i];

        if (!mi_job_shared(job, question->key) ||
            (job->size == 1 && mi_query_mirrors(question->query)))
            continue;
        if (mi_reader_replay(job->reader, question, &err) != 0)
            break; /* without threads or memory: nothing is lost */
        job->replayed++;
    }
    if (job->size == 1)
        mi_reader_complete(job->reader);
}

static int start_reader(struct mi_job *job, const struct mi_job_config *config,
                        struct mi_error *err)
{
    const int alone = job->size == 1;
    struct mi_reader_config reader = {
        .store = job->node.store,
        .mailbox = job->node.mailbox,
        .mirror = job->mirror,
        .share = job->share,
        .local = job->local,
        .loaded = job->loaded,
        .rule = config->rule,
        .threads = config->readers > 0 ? config->readers : READERS,
        .alone = alone,
        .stream = job->node.leaders != 0,
        .notice = notice,
        .arg = job,
    };

    if (!alone && !(job->refused = mi_refused_create()))
        return mi_fail_errno(err, "job");
    reader.refused = job->refused;
    if (start_manifest(job, config, err) != 0)
        return -1;
    reader.asked = job->asked;
    if (alone && job->manifest.count == 0)
        reader.threads = 0;
    if (mi_reader_create(&job->reader, &reader, err) != 0)
        return -1;
    replay(job);
    return 0;
}

static int start_pump(struct mi_job *job, struct mi_error *err)
{
    struct mi_pump_config pump = {
        .mpi = job->mpi,
        .leaders = job->node.leaders,
        .size = 1,
        .mates = job->node.attached,
        .store = job->node.store,
        .mailbox = job->node.mailbox,
        .mirror = job->mirror,
        .reader = job->reader,
        .notice = notice,
        .arg = job,
    };

    if (pump.leaders &&
        (mpimin_comm_rank(job->mpi, pump.leaders, &pump.rank, err) != 0 ||
         mpimin_comm_size(job->mpi, pump.leaders, &pump.size, err) != 0))
        return -1;
    return mi_pump_start(&job->pump, &pump, err);
}

/* Objects go where the store is, or to the next place that allows execution.
 */
static int start_mirror(struct mi_job *job, const struct mi_job_config *config,
                        const char *tmpdir, struct mi_error *err)
{
    const char *const others[] = {getenv("TMPDIR"), "/tmp", "/var/tmp"};

    if (mi_limit_is_zero(&config->max_store))
        return 0;
    job->budget.limit = mi_limit_bytes(&config->max_store, tmpdir);
    if (mi_mirror_create(&job->mirror, tmpdir, err) != 0)
        return -1;
    mi_store_set_budget(job->node.store, &job->budget);
    mi_mirror_set_budget(job->mirror, &job->budget);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (others[i] && strlen(others[i]) < PATH_MAX &&
            mi_mirror_add_place(job->mirror, others[i], err) != 0)
            return -1;
    return 0;
}

/* What a leader runs.  With less than MPI_THREAD_MULTIPLE no pump may call
 * MPI beside the application, so each leader reads for its own node.
 */
static int start_leader(struct mi_job *job, const struct mi_job_config *config,
                        const char *tmpdir, enum mpimin_thread level,
                        struct mi_error *err)
{
    if (job->node.nodes > 1 && level < MPIMIN_THREAD_MULTIPLE) {
        if (job->rank == 0)
            mi_job_say(
                job, MI_FIRST_THREAD,
                "MPI does not grant MPI_THREAD_MULTIPLE: one rank per node "
                "reads the filesystem instead of one rank per job");
        if (mpimin_comm_free(job->mpi, &job->node.leaders, err) != 0)
            return -1;
    }
    if (job->size > 1 && start_mirror(job, config, tmpdir, err) != 0)
        return -1;
    if (!job->node.leaders || job->rank == 0)
        if (start_reader(job, config, err) != 0)
            return -1;
    if (job->node.leaders || job->node.attached > 1)
        return start_pump(job, err);
    return 0;
}

static int start_node(struct mi_job *job, const struct mi_job_config *config,
                      const char *tmpdir, enum mpimin_thread level,
                      struct mi_error *err)
{
    struct mi_error why;

    mi_error_clear(&why);
    if (job->direct) {
        job->node = (struct mi_node){.size = 1, .nodes = 1};
        return 0;
    }
    if (job->size == 1) {
        if (mi_node_alone(&job->node, ALONE, &why) != 0)
            say_direct(job, &why);
    } else {
        if (mi_node_form(&job->node, job->mpi, job->comm, tmpdir,
                         config->ranks_per_node, 0, &why, err) != 0)
            return -1;
        if (!job->node.stored && (job->node.rank == 0 || why.code == EPERM))
            say_direct(job, &why);
    }
    if (job->node.rank > 0 || !job->node.stored)
        return 0;
    return start_leader(job, config, tmpdir, level, err);
}

int mi_job_start(struct mi_job **result, const struct mi_job_config *config,
                 struct mi_error *err)
{
    struct mi_job *job = calloc(1, sizeof(*job));
    const char *tmpdir = config->tmpdir ? config->tmpdir : "/dev/shm";
    enum mpimin_thread level;

    *result = job;
    if (!job)
        return mi_fail_errno(err, "job");
    pthread_mutex_init(&job->lock, NULL);
    job->grace =
        (uint64_t)(config->grace > 0 ? config->grace : GRACE) * 1000000u;
    job->patience =
        (uint64_t)(config->patience > 0 ? config->patience : PATIENCE) *
        1000000000u;
    if (tmpdir[0] != '/')
        return mi_fail(err, MI_ERRNO, EINVAL,
                       "-T %s: the directory must be an absolute path",
                       tmpdir);
    job->tmpdir = strdup(tmpdir);
    job->preload = create_preload(job);
    job->loaded = mi_loaded_list();
    if (!job->tmpdir || !job->preload || !job->loaded ||
        mi_list_copy(&job->share, config->share) != 0 ||
        mi_list_copy(&job->local, config->local) != 0)
        return mi_fail_errno(err, "job");
    pthread_atfork(NULL, NULL, after_fork);
    mi_dirs_prepare(); /* MPI may start threads */
    if (start_mpi(job, config, &level, err) != 0 ||
        agree(job, config, err) != 0 ||
        start_node(job, config, tmpdir, level, err) != 0)
        return -1;
    return 0;
}

int mi_job_rank(const struct mi_job *job)
{
    return job->rank;
}

int mi_job_size(const struct mi_job *job)
{
    return job->size;
}

int mi_job_source(const struct mi_job *job)
{
    return job->reader != NULL && !mi_job_forked();
}

int mi_job_open(const struct mi_job *job)
{
    return job->node.stored && !mi_job_forked() &&
           !atomic_load(&job->finished) &&
           mi_mailbox_stream(job->node.mailbox) == MI_STREAM_OPEN;
}

int mi_job_direct(const struct mi_job *job)
{
    return job->direct;
}

int mi_job_stored(const struct mi_job *job)
{
    return job->node.stored;
}

/* ---- questions ---------------------------------------------------------- */

const struct mi_record *mi_job_find(const struct mi_job *job,
                                    enum mi_query query, const char *key)
{
    if (!job->node.stored)
        return NULL;
    return mi_store_find(job->node.store, query, key, strlen(key));
}

static int pending(const struct mi_record *record)
{
    return record && record->kind == MI_KIND_ABSENT &&
           record->code == MI_CODE_PENDING;
}

/* How long to wait for an answer: once that was in vain, not again before the
 * store grows.
 */
static uint64_t patience(const struct mi_job *job)
{
    return atomic_load(&job->lost) == mi_mailbox_growth(job->node.mailbox) + 1
               ? job->grace
               : job->patience;
}

static void say_patience(struct mi_job *job, const char *key)
{
    char text[PATH_MAX + 200];

    atomic_store(&job->lost, mi_mailbox_growth(job->node.mailbox) + 1);
    snprintf(text, sizeof(text),
             "no answer from rank 0 for %llu s; %s and what else is not there "
             "in time is read directly from the filesystem",
             (unsigned long long)(job->patience / 1000000000u), key);
    mi_job_say(job, MI_FIRST_DIRECT, text);
}

/* Milliseconds until 'due', at least 1 and at most 100. */
static int until(uint64_t now, uint64_t due)
{
    uint64_t left = due > now ? (due - now) / 1000000u : 0;

    return left < 1 ? 1 : left > 100 ? 100 : (int)left;
}

/* How long to wait for root to come to a question by itself.  It does not ask
 * these: where it reads for a program, it does so by stock means.  The next
 * rank asks them for all, if it needs the answer.
 */
static uint64_t grace_for(const struct mi_job *job, enum mi_query query)
{
    int unasked = query == MI_LSTAT || query == MI_COPY;

    int asker = job->node.leaders ? job->rank == 1 : job->node.rank == 1;

    return unasked && asker ? 0 : job->grace;
}

/* Wait until the record is in the store, asking for it after the grace. */
static int wait_for(struct mi_job *job, enum mi_query query, const char *key,
                    const void *message, size_t size,
                    const struct mi_record **record)
{
    struct mi_mailbox *box = job->node.mailbox;
    uint64_t start = mi_clock_now(), now, pending_since = 0;
    const uint64_t grace = grace_for(job, query);
    int asked = 0;
    uint32_t seen;
    enum mi_stream stream;

    for (;;) {
        seen = mi_mailbox_growth(box);
        stream = mi_mailbox_stream(box);
        *record = mi_job_find(job, query, key);
        if (*record && !pending(*record))
            return 1;
        if (stream != MI_STREAM_OPEN)
            return 0;
        now = mi_clock_now();
        if (*record && !pending_since)
            pending_since = now;
        if (*record && now - pending_since > COMPILING * 1000000000ull)
            return 1;
        if (now - start > patience(job)) {
            say_patience(job, key);
            return 0;
        }
        if (!asked && now - start >= grace)
            asked = mi_mailbox_post(box, message, size);
        else
            mi_mailbox_kick(box);
        mi_mailbox_wait_growth(
            box, seen, until(now, asked ? now + 100000000 : start + grace));
    }
}

static int wait_answer(struct mi_job *job, enum mi_query query,
                       const char *key, const char *extra,
                       const struct mi_record **record, struct mi_error *err)
{
    const struct mi_ask ask = mi_ask_of(query, key, extra);
    unsigned char message[MI_ASK_MAX];
    size_t size;
    int rc;

    if (mi_ask_pack(message, &ask, &size, err) != 0)
        return 0; /* no such path can be stored: let the caller try */
    mi_clock_enter(MI_COMM);
    mi_clock_count(MI_COMM);
    rc = wait_for(job, query, key, message, size, record);
    mi_clock_leave();
    return rc;
}

/* The program of the rank that reads asks this. */
static void record_ask(struct mi_job *job, enum mi_query query,
                       const char *key, const char *extra)
{
    if (job->asked && !mi_job_forked())
        mi_asked_add(job->asked, query, key, extra, MI_ASKER_OWN);
}

void mi_job_used(struct mi_job *job, const struct mi_record *record)
{
    if (job->asked && !mi_job_forked())
        mi_asked_mark(job->asked, record);
}

void mi_job_own(struct mi_job *job, const char *directory)
{
    if (!mi_job_forked())
        mi_asked_own(job->asked, directory);
}

void mi_job_needs(struct mi_job *job, enum mi_query query, const char *key)
{
    record_ask(job, query, key, "");
}

static int read_answer(struct mi_job *job, enum mi_query query,
                       const char *key, const char *extra,
                       const struct mi_record **record, struct mi_error *err)
{
    int rc;

    mi_clock_enter(MI_IO);
    mi_clock_count(MI_IO);
    rc = mi_reader_answer(job->reader, query, key, extra, record, err);
    mi_clock_leave();
    return rc;
}

int mi_job_ask(struct mi_job *job, enum mi_query query, const char *key,
               const char *extra, const struct mi_record **record,
               struct mi_error *err)
{
    if (!job->node.stored || strlen(key) > MI_PATH)
        return 0;
    record_ask(job, query, key, extra);
    *record = mi_job_find(job, query, key);
    if (*record && (!pending(*record) || mi_job_source(job)))
        return 1;
    if (mi_job_forked())
        return 0;
    if (job->reader)
        return read_answer(job, query, key, extra, record, err);
    return wait_answer(job, query, key, extra, record, err);
}

int mi_job_read(struct mi_job *job, enum mi_query query, const char *key,
                const char *extra, struct mi_answer *answer,
                struct mi_error *err)
{
    int rc;

    if (!mi_job_source(job))
        return 0;
    mi_clock_enter(MI_IO);
    rc = mi_reader_read(job->reader, query, key, extra, answer, err);
    if (rc != 1)
        mi_clock_count(MI_IO);
    mi_clock_leave();
    if (rc >= 0 && answer->entry.mtime < job->started &&
        answer->entry.changed < job->started)
        record_ask(job, query, key, extra);
    return rc >= 0 ? 1 : -1;
}

int mi_job_publish(struct mi_job *job, const struct mi_entry *entry,
                   struct mi_error *err)
{
    if (!mi_job_source(job) ||
        mi_mailbox_stream(job->node.mailbox) != MI_STREAM_OPEN)
        return 0;
    return mi_reader_publish(job->reader, entry, NULL, err);
}

/* Is this a rank that reads ahead for others? */
static int reads_ahead(const struct mi_job *job)
{
    return mi_job_source(job) && job->size > 1;
}

void mi_job_hurry(struct mi_job *job)
{
    if (mi_job_source(job))
        mi_reader_hold(job->reader, 0);
}

int mi_job_prefetch(struct mi_job *job, enum mi_query query, const char *key,
                    const char *extra, struct mi_error *err)
{
    if (!reads_ahead(job))
        return 0;
    mi_asked_add(job->asked, query, key, extra, MI_ASKER_OTHER);
    return mi_reader_ahead(job->reader, query, key, extra, err);
}

int mi_job_foresee(struct mi_job *job, const struct mi_ahead_rules *rules,
                   char *const *path, struct mi_error *err)
{
    return reads_ahead(job) ? mi_reader_foresee(job->reader, rules, path, err)
                            : 0;
}

int mi_job_path(struct mi_job *job, char *const *path, struct mi_error *err)
{
    return reads_ahead(job) ? mi_reader_path(job->reader, path, err) : 0;
}

int mi_job_foresee_program(struct mi_job *job, const void *code, size_t size,
                           struct mi_error *err)
{
    return reads_ahead(job) ? mi_reader_program(job->reader, code, size, err)
                            : 0;
}

int mi_job_mirrored(const struct mi_job *job, const struct mi_record *record,
                    char *path)
{
    const char *root = mi_mailbox_mirror(job->node.mailbox);
    size_t used = strlen(root);

    if (!used || record->kind != MI_KIND_MIRROR ||
        (!record->object && record->query != MI_COPY))
        return 0;
    memcpy(path, root, used);
    return mi_path_normal(mi_record_place(record), path + used,
                          PATH_MAX - used) == 0;
}

static const struct mi_record *find_object(const void *job, const char *path)
{
    return mi_job_find(job, MI_MIRROR, path);
}

static int place_object(const void *job, const struct mi_record *record,
                        char *place)
{
    if (record->kind == MI_KIND_MIRROR)
        return mi_job_mirrored(job, record, place);
    memcpy(place, mi_record_key(record), record->key_size + 1);
    return 1;
}

static struct mi_preload *create_preload(const struct mi_job *job)
{
    const char *path = getenv("LD_LIBRARY_PATH");
    const struct mi_preload_config config = {.find = find_object,
                                             .place = place_object,
                                             .arg = job,
                                             .library_path = path && path[0]};

    return mi_preload_create(&config);
}

void *mi_job_preload(struct mi_job *job, const struct mi_record *record,
                     int self, int flags, struct mi_error *err)
{
    return mi_preload_open(job->preload, record, self, flags, err);
}

void mi_job_preload_close(void *handle)
{
    mi_preload_close(handle);
}

int mi_job_shared(const struct mi_job *job, const char *path)
{
    return mi_prefixes_shared(job->share, job->local, path);
}

int mi_job_named(const struct mi_job *job, const char *path)
{
    return mi_prefixes_has(job->share, path);
}

int mi_job_compile(struct mi_job *job, char *path)
{
    return mi_job_source(job) ? mi_reader_compile(job->reader, path) : 0;
}

void mi_job_avoid(struct mi_job *job, unsigned operations)
{
    atomic_fetch_add_explicit(&job->avoided, operations, memory_order_relaxed);
}

/* ---- collectives -------------------------------------------------------- */

int mi_job_barrier(struct mi_job *job, struct mi_error *err)
{
    return mpimin_barrier(job->mpi, job->comm, err);
}

int mi_job_bcast(struct mi_job *job, void *bytes, size_t size, int root,
                 struct mi_error *err)
{
    return mpimin_bcast(job->mpi, bytes, size, root, job->comm, err);
}

int mi_job_bcast_blob(struct mi_job *job, void **bytes, uint64_t *size,
                      int root, struct mi_error *err)
{
    if (job->rank != root)
        *bytes = NULL;
    if (mi_job_bcast(job, size, sizeof(*size), root, err) != 0)
        return -1;
    if (job->rank != root && !(*bytes = malloc(*size + 1)))
        return mi_fail_errno(err, "%llu bytes of rank %d",
                             (unsigned long long)*size, root);
    if (*size == 0 || mi_job_bcast(job, *bytes, *size, root, err) == 0)
        return 0;
    if (job->rank != root) {
        free(*bytes);
        *bytes = NULL;
    }
    return -1;
}

/* ---- the end ------------------------------------------------------------ */

void mi_job_program(struct mi_job *job)
{
    uint64_t nanoseconds[MI_PHASES], counts[MI_PHASES];

    mi_clock_read(nanoseconds, counts);
    job->program = mi_clock_now();
    job->before = nanoseconds[MI_ALL];
}

void mi_job_numbers(struct mi_job *job, struct mi_numbers *numbers)
{
    uint64_t imports, wall;

    *numbers = (struct mi_numbers){
        .rank = job->rank, .node = job->node.number, .present = 1};
    mi_clock_read(numbers->nanoseconds, numbers->counts);
    imports = numbers->nanoseconds[MI_ALL] - job->before;
    wall = job->program ? mi_clock_now() - job->program : 0;
    numbers->run = wall > imports ? wall - imports : 0;
    numbers->avoided = atomic_load(&job->avoided);
    if (job->rank == 0 && job->pump)
        numbers->bytes_sent = mi_pump_bytes(job->pump);
    if (job->reader) {
        const struct mi_traffic *traffic = mi_reader_traffic(job->reader);

        numbers->bytes_read = atomic_load(&traffic->bytes);
        numbers->operations = atomic_load(&traffic->operations);
    }
    if (job->node.stored && job->node.rank == 0) {
        numbers->store_bytes = mi_store_reserved(job->node.store);
        if (job->mirror)
            numbers->mirror_bytes = mi_mirror_bytes(job->mirror);
    }
    if (gethostname(numbers->host, sizeof(numbers->host) - 1) != 0)
        numbers->host[0] = '\0';
}

/* Collect everybody's numbers on rank 0.  Whoever does not answer in time is
 * left out.
 */
static int gather(struct mi_job *job, struct mi_error *err)
{
    mpimin_request request = 0;
    int done;

    if (!job->report)
        return 0;
    mi_job_numbers(job, &job->mine);
    if (job->rank == 0 &&
        !(job->gathered = calloc((size_t)job->size, sizeof(job->mine))))
        return mi_fail_errno(err, "report");
    if (mpimin_igather(job->mpi, &job->mine, sizeof(job->mine), job->gathered,
                       0, job->comm, &request, err) != 0 ||
        mpimin_wait(job->mpi, &request, GATHERING, &done, err) != 0)
        return -1;
    if (!done) {
        /* The buffers belong to MPI now, for good. */
        job->gathered = NULL;
        return mi_fail(err, MI_MPI, 0,
                       "the numbers of all ranks did not come within %d s",
                       GATHERING);
    }
    return 0;
}

/* The stream has broken on this node: the others would wait for it for ever.
 * Nobody is left who could raise this, so it is written here.
 */
static void end_broken(struct mi_job *job)
{
    char text[1400];

    dprintf(STDERR_FILENO,
            "mpiimport: rank %d: the stream of modules has broken, so the job "
            "cannot end in order: aborting\n",
            job->rank);
    while (mi_job_notice(job, text, sizeof(text)))
        dprintf(STDERR_FILENO, "mpiimport: rank %d: %s\n", job->rank, text);
    mi_job_abort(job, 1);
}

/* Serve until all ranks are here, then gather.  Runs once, at the beginning
 * of MPI_Finalize, whoever calls that.
 */
static int wind_up(struct mi_job *job, struct mi_error *err)
{
    int rc;

    if (mi_job_forked() || atomic_exchange(&job->finished, 1))
        return 0;
    if (job->node.mailbox)
        mi_mailbox_detach(job->node.mailbox);
    if (job->pump && mi_pump_finish(job->pump) != 0)
        end_broken(job);
    if (job->reader)
        mi_reader_stop(job->reader);
    /* Sleeping here, where MPI_Finalize would spin. */
    rc = mpimin_barrier(job->mpi, job->comm, err);
    if (rc == 0)
        rc = gather(job, err);
    if (job->node.leaders)
        rc |= mpimin_comm_free(job->mpi, &job->node.leaders, err);
    return mpimin_comm_free(job->mpi, &job->comm, err) | rc;
}

static void on_finalize(void *arg)
{
    struct mi_job *job = arg;
    struct mi_error err;

    if (wind_up(job, &err) != 0)
        mi_job_say(job, MI_FIRST_END, err.text);
}

/* After all of MPI: nobody waits for this.  A job that has not come to its
 * program has asked for nothing that would be of use.
 */
static void save_manifest(struct mi_job *job)
{
    struct mi_question *questions;
    struct mi_error err;
    size_t count;

    if (!job->asked || !job->program ||
        mi_asked_merge(job->asked, job->node.store, job->started, &questions,
                       &count) <= 0)
        return;
    if (mi_manifest_write(job->manifest_path, job->manifest_key, questions,
                          count, &err) == 0)
        job->manifest_written = 1;
    else
        mi_job_say(job, MI_FIRST_MANIFEST, err.text);
    free(questions);
}

int mi_job_finish(struct mi_job *job, struct mi_error *err)
{
    int rc = 0;

    if (mi_job_forked())
        return 0;
    if (wind_up(job, err) != 0)
        mi_job_say(job, MI_FIRST_END, err->text);
    if (job->ours)
        rc = mpimin_finalize(job->mpi, err);
    save_manifest(job);
    return rc;
}

void mi_job_get_manifest(struct mi_job *job, struct mi_job_manifest *manifest)
{
    *manifest = (struct mi_job_manifest){.path = job->manifest_path,
                                         .replayed = job->replayed,
                                         .written = job->manifest_written};
    if (!mi_job_forked())
        mi_asked_counts(job->asked, &manifest->count);
}

const struct mi_numbers *mi_job_gathered(const struct mi_job *job, int i)
{
    return job->gathered && job->gathered[i].present ? &job->gathered[i]
                                                     : NULL;
}

int mi_job_refused(const struct mi_job *job, int i, const char **path,
                   const char **why)
{
    return !mi_job_forked() && i >= 0 &&
           mi_refused_get(job->refused, (size_t)i, path, why);
}

uint64_t mi_job_refused_count(const struct mi_job *job)
{
    return mi_job_forked() ? 0 : mi_refused_count(job->refused);
}

void mi_job_remove(struct mi_job *job)
{
    if (mi_job_forked() || !job->mirror)
        return;
    /* No reader and no pump may touch the mirror any more. */
    mi_mailbox_set_stream(job->node.mailbox, MI_STREAM_GONE);
    mi_mirror_remove(job->mirror);
}

void mi_job_abort(struct mi_job *job, int status)
{
    if (!job || !job->mpi)
        _exit(status);
    mi_job_remove(job);
    mpimin_abort(job->mpi, status);
}
