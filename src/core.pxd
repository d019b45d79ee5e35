# The C core, as the extension sees it.  Declarations only.

from libc.stdint cimport int32_t, int64_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "error.h" nogil:
    enum mi_domain:
        MI_NONE
        MI_ERRNO
        MI_MPI
        MI_FORMAT
    struct mi_error:
        mi_domain domain
        int code
        char text[1016]
    void mi_error_clear(mi_error *err)


cdef extern from "format.h" nogil:
    enum mi_query:
        MI_LIST
        MI_STAT
        MI_READ
        MI_CODE
        MI_MIRROR
        MI_REAL
        MI_LSTAT
        MI_COPY
    enum mi_kind:
        MI_KIND_LIST
        MI_KIND_STAT
        MI_KIND_FILE
        MI_KIND_ABSENT
        MI_KIND_MIRROR
    int MI_CODE_PENDING
    int MI_CODE_SOURCE
    int MI_MIRROR_REFUSED
    int MI_MIRROR_DAMAGED
    int MI_READ_REFUSED
    int MI_FLAG_LOCAL
    struct mi_record:
        uint8_t kind
        uint16_t flags
        int32_t code
        uint64_t size
        int64_t mtime
        uint64_t file_size
        uint64_t device
        uint64_t inode
        uint32_t mode
    struct mi_status:
        int64_t atime
        int64_t ctime
        uint64_t nlink
        uint64_t uid
        uint64_t gid
        uint64_t rdev
        uint64_t blksize
        uint64_t blocks
    const mi_status *mi_record_status(const mi_record *record,
                                      const char **target)
    const char *mi_record_key(const mi_record *record)
    const void *mi_record_payload(const mi_record *record)
    void mi_entries_match(const mi_record *list, const char *name,
                          size_t size, const char *const *suffixes, int count,
                          int *directory, int *suffix)
    const char *mi_entries_next(const mi_record *list, const char *previous,
                                char *type, int *link)


cdef extern from "loaded.h" nogil:
    bint mi_loaded_from(const char *path)


cdef extern from "store.h" nogil:
    struct mi_entry:
        mi_query query
        mi_kind kind
        int code
        const char *key
        size_t key_size
        const void *payload
        size_t size
        int64_t mtime
        uint64_t file_size
        uint32_t mode


cdef extern from "clock.h" nogil:
    enum mi_phase:
        MI_FIND
        MI_IO
        MI_COMM
        MI_LOAD
        MI_LOAD_FILE
        MI_LOAD_DIRECT
        MI_SITE
        MI_BOOT
        MI_ALL
        MI_PHASES
    uint64_t mi_clock_now()
    uint64_t mi_clock_process_start()
    void mi_clock_charge(mi_phase phase, uint64_t since)
    void mi_clock_enter(mi_phase phase)
    void mi_clock_switch(mi_phase phase)
    void mi_clock_leave()
    void mi_clock_count(mi_phase phase)


cdef extern from "files.h" nogil:
    struct mi_bytecode:
        unsigned char magic[4]
        char check_hash
    struct mi_answer:
        mi_entry entry
        void *data
    void mi_answer_clear(mi_answer *answer)


cdef extern from "ahead.h" nogil:
    struct mi_ahead_rules:
        char **suffixes
        const char *cached
        char **known
        char **own


cdef extern from "job.h" nogil:
    struct mi_job:
        pass
    struct mi_job_config:
        mi_bytecode rule
        int optimize
    struct mi_asked_count:
        size_t known
        size_t used
        size_t added
        size_t dropped
    struct mi_job_manifest:
        const char *path
        mi_asked_count count
        uint64_t replayed
        int written
    struct mi_numbers:
        uint64_t nanoseconds[9]
        uint64_t counts[9]
        uint64_t run
        uint64_t bytes_read
        uint64_t bytes_sent
        uint64_t operations
        uint64_t avoided
        uint64_t store_bytes
        uint64_t mirror_bytes
        int32_t rank
        int32_t node
        char host[68]
    int mi_job_start(mi_job **job, const mi_job_config *config, mi_error *err)
    int mi_job_rank(const mi_job *job)
    int mi_job_size(const mi_job *job)
    int mi_job_source(const mi_job *job)
    int mi_job_open(const mi_job *job)
    int mi_job_direct(const mi_job *job)
    int mi_job_stored(const mi_job *job)
    int mi_job_ask(mi_job *job, mi_query query, const char *key,
                   const char *extra, const mi_record **record, mi_error *err)
    int mi_job_read(mi_job *job, mi_query query, const char *key,
                    const char *extra, mi_answer *answer, mi_error *err)
    const mi_record *mi_job_find(const mi_job *job, mi_query query,
                                 const char *key)
    void mi_job_used(mi_job *job, const mi_record *record)
    void mi_job_own(mi_job *job, const char *directory)
    void mi_job_needs(mi_job *job, mi_query query, const char *key)
    void mi_job_get_manifest(mi_job *job, mi_job_manifest *manifest)
    int mi_job_publish(mi_job *job, const mi_entry *entry, mi_error *err)
    void mi_job_hurry(mi_job *job)
    int mi_job_prefetch(mi_job *job, mi_query query, const char *key,
                        const char *extra, mi_error *err)
    int mi_job_foresee(mi_job *job, const mi_ahead_rules *rules, char **path,
                       mi_error *err)
    int mi_job_path(mi_job *job, char **path, mi_error *err)
    int mi_job_foresee_program(mi_job *job, const void *code, size_t size,
                               mi_error *err)
    int mi_job_mirrored(const mi_job *job, const mi_record *record, char *path)
    void *mi_job_preload(mi_job *job, const mi_record *record, int self,
                         int flags, mi_error *err)
    void mi_job_preload_close(void *handle)
    bint mi_job_shared(const mi_job *job, const char *path)
    bint mi_job_named(const mi_job *job, const char *path)
    int mi_job_compile(mi_job *job, char *path)
    void mi_job_avoid(mi_job *job, unsigned operations)
    int mi_job_barrier(mi_job *job, mi_error *err)
    int mi_job_bcast(mi_job *job, void *data, size_t size, int root,
                     mi_error *err)
    int mi_job_bcast_blob(mi_job *job, void **data, uint64_t *size, int root,
                          mi_error *err)
    int mi_job_notice(mi_job *job, char *text, size_t size)
    mpimin_family mi_job_family(const mi_job *job)
    int mi_job_first_crash(mi_job *job)
    void mi_job_program(mi_job *job)
    void mi_job_numbers(mi_job *job, mi_numbers *numbers)
    int mi_job_finish(mi_job *job, mi_error *err)
    const mi_numbers *mi_job_gathered(const mi_job *job, int i)
    int mi_job_refused(const mi_job *job, int i, const char **path,
                       const char **why)
    uint64_t mi_job_refused_count(const mi_job *job)
    void mi_job_remove(mi_job *job)
    void mi_job_abort(mi_job *job, int status)
    int mi_job_forked()


cdef extern from "options.h" nogil:
    enum mi_program:
        MI_PROGRAM_NONE
        MI_PROGRAM_SCRIPT
        MI_PROGRAM_COMMAND
        MI_PROGRAM_MODULE
        MI_PROGRAM_STDIN
        MI_PROGRAM_HELP
        MI_PROGRAM_VERSION
    struct mi_options:
        char **words
        char **python
        int no_site
        int skip_first
        mi_program program
        char *value
        char **args
        char *mpi
        char *tmpdir
        int verbose
        int direct
        int timing
        char *timing_file
        int strategy
        int gc_defer
        int data
        char **share
        char **local
        int version_level
    int mi_options_parse(mi_options *options, char **argv,
                         char *(*get)(const char *), mi_error *err)
    void mi_options_clear(mi_options *options)
    char *mi_options_help(const char *name)


cdef extern from "config.h" nogil:
    struct mi_config:
        mi_job_config job
    int mi_config_make(mi_config *config, const mi_options *options,
                       const char *python, char *(*get)(const char *),
                       mi_error *err)
    int mi_config_identify(mi_config *config, const mi_options *options,
                           const char *python, char *(*get)(const char *),
                           mi_error *err)
    void mi_config_clear(mi_config *config)


cdef extern from "mpimin.h" nogil:
    int mpimin_promise_first(char *(*get)(const char *))
    enum mpimin_family:
        MPIMIN_MPICH
        MPIMIN_OPENMPI
        MPIMIN_ABI


cdef extern from "embedded.h" nogil:
    struct mi_embedded:
        const char *name
        const unsigned char *code
        size_t size
    const mi_embedded *mi_embedded_table "mi_embedded"
