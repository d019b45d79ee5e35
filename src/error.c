#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fill(struct mi_error *err, enum mi_domain domain, int code,
                 const char *format, va_list args)
{
    int n;

    err->domain = domain;
    err->code = code;
    n = vsnprintf(err->text, sizeof(err->text), format, args);
    if (n < 0)
        err->text[0] = '\0';
}

int mi_fail(struct mi_error *err, enum mi_domain domain, int code,
            const char *format, ...)
{
    int saved = errno;
    va_list args;

    if (err) {
        va_start(args, format);
        fill(err, domain, code, format, args);
        va_end(args);
    }
    errno = saved;
    return -1;
}

int mi_fail_errno(struct mi_error *err, const char *format, ...)
{
    int saved = errno;
    size_t used;
    char buffer[128];
    va_list args;

    if (err) {
        va_start(args, format);
        fill(err, MI_ERRNO, saved, format, args);
        va_end(args);
        used = strlen(err->text);
        /* GNU's, which returns the text. */
        snprintf(err->text + used, sizeof(err->text) - used, ": %s",
                 strerror_r(saved, buffer, sizeof(buffer)));
    }
    errno = saved;
    return -1;
}

int mi_fail_context(struct mi_error *err, const char *format, ...)
{
    char inner[sizeof(err->text)];
    size_t used;
    va_list args;

    if (!err)
        return -1;
    memcpy(inner, err->text, sizeof(inner));
    va_start(args, format);
    fill(err, err->domain, err->code, format, args);
    va_end(args);
    used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner);
    return -1;
}

void mi_error_clear(struct mi_error *err)
{
    if (err) {
        err->domain = MI_NONE;
        err->code = 0;
        err->text[0] = '\0';
    }
}
