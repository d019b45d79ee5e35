#include "stream.h"

#include <errno.h>
#include <stdio.h>

int mi_stream_receive(const struct mi_pump_config *c, enum mi_tag tag,
                      void *message, size_t room, size_t *size, int *got,
                      struct mi_error *err)
{
    int source;

    if (mpimin_iprobe(c->mpi, (int)tag, c->leaders, got, &source, size, err) !=
        0)
        return -1;
    if (!*got)
        return 0;
    if (*size > room)
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "message of %zu bytes from leader %d", *size, source);
    return mpimin_recv(c->mpi, message, *size, source, (int)tag, c->leaders,
                       err);
}

void mi_stream_say(const struct mi_pump_config *c, unsigned first,
                   const char *what, const struct mi_error *why)
{
    char text[1400];

    snprintf(text, sizeof(text),
             "%s: %s; what is missing on this node is read directly from the "
             "filesystem " MI_WAY_OUT,
             what, why->text);
    c->notice(c->arg, first, text);
}
