#include "usage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int mi_usage_refuse(struct mi_error *err, const char *format, ...)
{
    char text[sizeof(err->text)];
    va_list args;

    va_start(args, format);
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    va_end(args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    return mi_fail(err, MI_ERRNO, EINVAL, "%s", text);
}

int mi_usage_missing(const char *option, struct mi_error *err)
{
    return mi_usage_refuse(err, "Argument expected for the %s option", option);
}

int mi_usage_no_memory(struct mi_error *err)
{
    return mi_fail(err, MI_ERRNO, ENOMEM, "no memory for the command line");
}

int mi_usage_choose(const struct mi_choices *choices, const char *text,
                    const char *origin, struct mi_error *err)
{
    for (int i = 0; choices->words[i]; i++)
        if (strcmp(text, choices->words[i]) == 0)
            return i;
    return mi_usage_refuse(err, "%s must be one of %s, not " MI_USAGE_VALUE,
                           origin, choices->listed, text);
}
