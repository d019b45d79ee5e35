#include "directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct directory {
    DIR *stream;
    struct dirent *pending; /* read, and not in an answer yet */
    off_t offset;           /* of the pending one, or of the next */
};

static struct directory *of(uint64_t handle)
{
    return (struct directory *)(uintptr_t)handle;
}

int slow_directory_open(const char *path, uint64_t *handle)
{
    struct directory *directory = calloc(1, sizeof(*directory));
    int code = ENOMEM;

    if (directory) {
        directory->stream = opendir(path);
        code = directory->stream ? 0 : errno;
    }
    if (code != 0)
        free(directory);
    else
        *handle = (uint64_t)(uintptr_t)directory;
    return code;
}

void slow_directory_close(uint64_t handle)
{
    closedir(of(handle)->stream);
    free(of(handle));
}

ssize_t slow_directory_read(uint64_t handle, fuse_req_t request, off_t offset,
                            char *buffer, size_t size)
{
    struct directory *directory = of(handle);
    size_t used = 0, needed;
    struct dirent *entry;
    struct stat status;

    if (offset != directory->offset) {
        seekdir(directory->stream, offset);
        directory->pending = NULL;
        directory->offset = offset;
    }
    memset(&status, 0, sizeof(status));
    for (;;) {
        if (!directory->pending) {
            errno = 0;
            directory->pending = readdir(directory->stream);
            if (!directory->pending)
                return errno != 0 && used == 0 ? -1 : (ssize_t)used;
        }
        entry = directory->pending;
        status.st_ino = entry->d_ino;
        status.st_mode = (mode_t)entry->d_type << 12;
        needed = fuse_add_direntry(request, buffer + used, size - used,
                                   entry->d_name, &status, entry->d_off);
        if (needed > size - used)
            return (ssize_t)used;
        used += needed;
        directory->offset = entry->d_off;
        directory->pending = NULL;
    }
}
