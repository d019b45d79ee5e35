#include "startup.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* In place of the executables' paths: these are given to readlink(2). */
#define NOWHERE L"/dev/null"

struct reader {
    const char *at;
    size_t left;
};

static const char *take(struct reader *reader, size_t size)
{
    const char *at = reader->at;

    if (size > reader->left)
        return NULL;
    reader->at += size;
    reader->left -= size;
    return at;
}

static int take_count(struct reader *reader, uint32_t *count)
{
    const char *at = take(reader, sizeof(*count));

    if (!at)
        return -1;
    memcpy(count, at, sizeof(*count));
    return 0;
}

/* Sets *text to a copy; to NULL on failure. */
static int take_text(struct reader *reader, wchar_t **text)
{
    const char *at;
    uint32_t count;

    *text = NULL;
    if (take_count(reader, &count) != 0)
        return -1;
    at = take(reader, count * sizeof(wchar_t));
    if (!at)
        return -1;
    *text = calloc((size_t)count + 1, sizeof(wchar_t));
    if (!*text)
        return -1;
    memcpy(*text, at, count * sizeof(wchar_t));
    return 0;
}

/* Copy a text into a field of 'config'. */
static int take_field(struct reader *reader, PyConfig *config, wchar_t **field)
{
    PyStatus status;
    wchar_t *text;

    if (take_text(reader, &text) != 0)
        return -1;
    status = PyConfig_SetString(config, field, text);
    free(text);
    return PyStatus_Exception(status) ? -1 : 0;
}

static int take_fields(struct reader *reader, PyConfig *config)
{
    wchar_t **const fields[] = {
        &config->prefix,           &config->base_prefix, &config->exec_prefix,
        &config->base_exec_prefix, &config->home,
    };
    size_t i;

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (take_field(reader, config, fields[i]) != 0)
            return -1;
    return 0;
}

static int take_module(struct reader *reader, struct _frozen *module)
{
    uint32_t size, package;

    if (take_count(reader, &size) != 0)
        return -1;
    module->name = take(reader, size);
    if (!module->name || size == 0 || module->name[size - 1] != '\0' ||
        take_count(reader, &package) != 0 || take_count(reader, &size) != 0)
        return -1;
    module->is_package = package != 0;
    module->code = (const unsigned char *)take(reader, size);
    module->size = (int)size;
    return module->code && size <= INT32_MAX ? 0 : -1;
}

static int take_modules(struct reader *reader, struct mi_startup *startup)
{
    uint32_t count, i;

    if (take_count(reader, &count) != 0 || count > reader->left)
        return -1;
    startup->frozen = calloc((size_t)count + 1, sizeof(*startup->frozen));
    if (!startup->frozen)
        return -1;
    for (i = 0; i < count; i++)
        if (take_module(reader, &startup->frozen[i]) != 0)
            return -1;
    return 0;
}

int mi_startup_take(struct mi_startup *startup, void *bytes, size_t size,
                    PyConfig *config, struct mi_error *err)
{
    struct reader reader = {bytes, size};
    PyStatus status;

    memset(startup, 0, sizeof(*startup));
    startup->bytes = bytes;
    if (take_fields(&reader, config) != 0 ||
        take_modules(&reader, startup) != 0)
        return mi_fail(err, MI_FORMAT, EINVAL,
                       "what rank 0 has sent to start Python cannot be used");
    status = PyConfig_SetString(config, &config->executable, NOWHERE);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetString(config, &config->base_executable, NOWHERE);
    if (PyStatus_Exception(status))
        return mi_fail(err, MI_ERRNO, ENOMEM, "%s", status.err_msg);
    startup->rest = reader.at;
    startup->rest_size = reader.left;
    return 0;
}

PyStatus mi_startup_initialize(struct mi_startup *startup,
                               const PyConfig *config)
{
    const struct _frozen *before = PyImport_FrozenModules;
    PyStatus status;

    if (startup->frozen)
        PyImport_FrozenModules = startup->frozen;
    status = Py_InitializeFromConfig(config);
    PyImport_FrozenModules = before;
    return status;
}

void mi_startup_clear(struct mi_startup *startup)
{
    free(startup->bytes);
    free(startup->frozen);
    memset(startup, 0, sizeof(*startup));
}
