#include "manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "Mim1"
#define ORDER 0x01020304u

#define WAY_OUT                                                               \
    "(--manifest FILE chooses another file, --manifest none does without)"

struct header {
    char magic[4];
    uint32_t order; /* ORDER, as this machine writes it */
    uint32_t version;
    uint32_t key_size;
    uint32_t count;
    uint32_t zero;
    uint64_t size;  /* bytes behind the header */
    uint64_t check; /* of the 32 bytes before and of those */
};

struct head {
    uint8_t query;
    uint8_t flags;
    uint8_t age;
    uint8_t zero;
    uint16_t key_size;
    uint16_t extra_size;
};

_Static_assert(sizeof(struct header) == 40, "layout of a manifest");
_Static_assert(sizeof(struct head) == 8, "layout of an entry");

static uint64_t checksum(const struct header *header, const void *body)
{
    uint64_t hash = mi_hash(0, header, offsetof(struct header, check));

    return mi_hash(hash, body, header->size);
}

/* ---- errors ------------------------------------------------------------- */

/* Of what may be replaced. */
static int damaged(const char *path, const char *why, struct mi_error *err)
{
    return mi_fail(err, MI_FORMAT, EBADMSG,
                   "%s: the manifest %s: ignored, and written anew at the "
                   "end " WAY_OUT,
                   path, why);
}

/* Of what is left alone. */
static int refused(const char *path, int code, const char *why,
                   struct mi_error *err)
{
    return mi_fail(err, MI_ERRNO, code,
                   "%s: not used as a manifest: %s " WAY_OUT, path, why);
}

static int refused_errno(const char *path, struct mi_error *err)
{
    char buffer[128];
    int code = errno;

    if (code == ELOOP)
        return refused(path, code, "it is a symbolic link", err);
    return refused(path, code, strerror_r(code, buffer, sizeof(buffer)), err);
}

/* ---- looking at a file -------------------------------------------------- */

/* Is it a file whose content may be looked at? */
static int check_status(const char *path, const struct stat *status,
                        struct mi_error *err)
{
    if (!S_ISREG(status->st_mode))
        return refused(path, EPERM, "it is not a regular file", err);
    if (status->st_uid != geteuid())
        return refused(path, EPERM, "it belongs to another user", err);
    if (status->st_mode & (S_IWGRP | S_IWOTH))
        return refused(path, EPERM, "others may write to it", err);
    if (status->st_size > (off_t)MI_MANIFEST_MAX)
        return refused(path, EFBIG, "it is too large", err);
    return 0;
}

/* Open for reading what has passed check_status().  1 with *file and *size, 0
 * if there is nothing, -1 with 'err'.
 */
static int open_file(const char *path, int *file, size_t *size,
                     struct mi_error *err)
{
    struct stat status;

    *file =
        open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (*file < 0)
        return errno == ENOENT ? 0 : refused_errno(path, err);
    if (fstat(*file, &status) != 0)
        refused_errno(path, err);
    else if (check_status(path, &status, err) == 0) {
        *size = (size_t)status.st_size;
        return 1;
    }
    close(*file);
    return -1;
}

/* The number of bytes that were there; -1 with errno. */
static ssize_t read_all(int file, char *bytes, size_t size)
{
    size_t used = 0;
    ssize_t n;

    while (used < size) {
        n = read(file, bytes + used, size - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* Could these be the first bytes of a manifest, or of one to be? */
static int is_ours(const char *bytes, size_t size)
{
    return memcmp(bytes, MAGIC, size < 4 ? size : 4) == 0;
}

static int not_ours(const char *path, struct mi_error *err)
{
    return refused(path, EEXIST, "it is a file with other content", err);
}

/* ---- reading ------------------------------------------------------------ */

/* The text of 'size' bytes and a NUL at *at, which moves on; NULL if that is
 * not one.
 */
static const char *take_text(const char **at, const char *end, size_t size)
{
    const char *text = *at;

    if ((size_t)(end - text) < size + 1 ||
        memchr(text, '\0', size + 1) != text + size)
        return NULL;
    *at += size + 1;
    return text;
}

static int take_question(struct mi_question *question, const char **at,
                         const char *end)
{
    struct head head;

    if ((size_t)(end - *at) < sizeof(head))
        return -1;
    memcpy(&head, *at, sizeof(head));
    *at += sizeof(head);
    if (head.query == 0 || head.query > MI_QUERY_LAST || head.zero ||
        head.key_size > MI_PATH || head.extra_size > MI_PATH)
        return -1;
    question->query = (enum mi_query)head.query;
    question->flags = head.flags;
    question->age = head.age;
    question->key = take_text(at, end, head.key_size);
    question->extra =
        question->key ? take_text(at, end, head.extra_size) : NULL;
    return question->extra && question->key[0] == '/' ? 0 : -1;
}

static int take_questions(struct mi_manifest *manifest,
                          const struct header *header, const char *at,
                          const char *end)
{
    if (header->count > (size_t)(end - at) / sizeof(struct head))
        return -1;
    manifest->questions =
        calloc((size_t)header->count + 1, sizeof(*manifest->questions));
    if (!manifest->questions)
        return -1;
    for (; manifest->count < header->count; manifest->count++)
        if (take_question(&manifest->questions[manifest->count], &at, end) !=
            0)
            return -1;
    return at == end ? 0 : -1;
}

/* What is wrong with it, or NULL. */
static const char *take_all(struct mi_manifest *manifest, const char *bytes,
                            size_t size, const char *key)
{
    const char *body = bytes + sizeof(struct header);
    struct header header;

    if (size < sizeof(header))
        return "is cut off";
    memcpy(&header, bytes, sizeof(header));
    if (header.order != ORDER)
        return "is of another kind of machine";
    if (header.version != MI_MANIFEST_VERSION)
        return "is of another version";
    if (header.size != size - sizeof(header) || header.key_size > header.size)
        return "is cut off";
    if (header.check != checksum(&header, body))
        return "is damaged";
    if (header.key_size != strlen(key) ||
        memcmp(body, key, header.key_size) != 0)
        return "is of another program or environment";
    if (take_questions(manifest, &header, body + header.key_size,
                       bytes + size) != 0)
        return "is damaged";
    return NULL;
}

static int read_file(struct mi_manifest *manifest, const char *path, int file,
                     size_t size, const char *key, struct mi_error *err)
{
    const char *why;
    ssize_t found;
    char *bytes = malloc(size + 1);

    manifest->bytes = bytes;
    if (!bytes)
        return refused_errno(path, err);
    found = read_all(file, bytes, size);
    if (found < 0)
        return refused_errno(path, err);
    if (!is_ours(bytes, (size_t)found))
        return not_ours(path, err);
    why = take_all(manifest, bytes, (size_t)found, key);
    return why ? damaged(path, why, err) : 0;
}

int mi_manifest_read(struct mi_manifest *manifest, const char *path,
                     const char *key, struct mi_error *err)
{
    struct mi_manifest found = {.count = 0};
    size_t size;
    int file, rc;

    rc = open_file(path, &file, &size, err);
    if (rc <= 0)
        return rc;
    rc = size == 0 ? 0 : read_file(&found, path, file, size, key, err);
    close(file);
    if (rc != 0 || size == 0) {
        mi_manifest_clear(&found);
        return rc;
    }
    *manifest = found;
    return 1;
}

void mi_manifest_clear(struct mi_manifest *manifest)
{
    free(manifest->questions);
    free(manifest->bytes);
    *manifest = (struct mi_manifest){.count = 0};
}

/* ---- writing ------------------------------------------------------------ */

static size_t size_of(const struct mi_question *question)
{
    return sizeof(struct head) + strlen(question->key) +
           strlen(question->extra) + 2;
}

static char *put(char *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static char *put_question(char *at, const struct mi_question *question)
{
    const struct head head = {
        .query = (uint8_t)question->query,
        .flags = (uint8_t)question->flags,
        .age = (uint8_t)question->age,
        .key_size = (uint16_t)strlen(question->key),
        .extra_size = (uint16_t)strlen(question->extra),
    };

    at = put(at, &head, sizeof(head));
    at = put(at, question->key, head.key_size + 1u);
    return put(at, question->extra, head.extra_size + 1u);
}

/* The whole file: an allocated block of *size bytes, or NULL with errno. */
static char *encode(const char *key, const struct mi_question *questions,
                    size_t count, size_t *size)
{
    struct header header = {.magic = MAGIC,
                            .order = ORDER,
                            .version = MI_MANIFEST_VERSION,
                            .key_size = (uint32_t)strlen(key)};
    size_t total = sizeof(header) + header.key_size;
    char *bytes, *at;

    for (; header.count < count; header.count++) {
        size_t one = size_of(&questions[header.count]);

        if (total + one > MI_MANIFEST_MAX)
            break;
        total += one;
    }
    bytes = malloc(total);
    if (!bytes)
        return NULL;
    at = put(bytes + sizeof(header), key, header.key_size);
    for (size_t i = 0; i < header.count; i++)
        at = put_question(at, &questions[i]);
    header.size = total - sizeof(header);
    header.check = checksum(&header, bytes + sizeof(header));
    memcpy(bytes, &header, sizeof(header));
    *size = total;
    return bytes;
}

/* May what is at 'path' be replaced? */
static int check_place(const char *path, struct mi_error *err)
{
    char begin[4];
    size_t size;
    ssize_t n;
    int file, rc = open_file(path, &file, &size, err);

    if (rc <= 0)
        return rc;
    n = read_all(file, begin, sizeof(begin));
    rc = n < 0                       ? refused_errno(path, err)
         : is_ours(begin, (size_t)n) ? 0
                                     : not_ours(path, err);
    close(file);
    return rc;
}

/* Make the directory that 'path' is in, and 'more' of those above it. */
static void make_directory(const char *path, int more)
{
    const char *slash = strrchr(path, '/');
    char *directory;

    if (!slash || slash == path)
        return;
    directory = strndup(path, (size_t)(slash - path));
    if (directory && mkdir(directory, 0700) != 0 && errno == ENOENT &&
        more > 0) {
        make_directory(directory, more - 1);
        (void)mkdir(directory, 0700); /* else the file cannot be made */
    }
    free(directory);
}

/* A new file beside 'path', whose name nobody can guess. */
static int open_beside(const char *path, char **name)
{
    const char *slash = strrchr(path, '/');
    int size = slash ? (int)(slash + 1 - path) : 0;
    uint64_t number;

    *name = NULL;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number) ||
        asprintf(name, "%.*s.mpiimport-%016llx", size, path,
                 (unsigned long long)number) < 0)
        return -1;
    return open(*name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                0600);
}

static int write_all(int file, const char *bytes, size_t size)
{
    ssize_t n;

    for (; size > 0; bytes += n, size -= (size_t)n) {
        n = write(file, bytes, size);
        if (n < 0 && errno == EINTR)
            n = 0;
        if (n < 0)
            return -1;
    }
    return 0;
}

/* Returns -1 with errno, and then nothing stays behind. */
static int replace(const char *path, const char *bytes, size_t size)
{
    char *name;
    int file, rc, code;

    make_directory(path, 1);
    file = open_beside(path, &name);
    if (file < 0) {
        free(name);
        return -1;
    }
    rc = write_all(file, bytes, size);
    code = errno;
    if (close(file) != 0 && rc == 0) {
        rc = -1;
        code = errno;
    }
    if (rc == 0 && rename(name, path) != 0) {
        rc = -1;
        code = errno;
    }
    if (rc != 0)
        unlink(name);
    free(name);
    errno = code;
    return rc;
}

int mi_manifest_write(const char *path, const char *key,
                      const struct mi_question *questions, size_t count,
                      struct mi_error *err)
{
    size_t size;
    char *bytes;
    int rc;

    if (check_place(path, err) != 0)
        return -1;
    bytes = encode(key, questions, count, &size);
    rc = bytes ? replace(path, bytes, size) : -1;
    free(bytes);
    if (rc != 0)
        return mi_fail_errno(err, "%s: no manifest is written " WAY_OUT, path);
    return 0;
}
