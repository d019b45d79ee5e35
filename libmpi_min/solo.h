/* solo: the MPI functions of a world of one, without any MPI.
 *
 * Every operation is complete when its call returns.  There is nobody to send
 * to: point-to-point calls fail with MPI_ERR_OTHER, and nothing can be probed.
 * Error codes are the classes of the MPI-5 standard ABI.  Initialisation and
 * attributes need state, which is the handle's (mpimin.c): their slots are
 * NULL.
 */
#ifndef MPIMIN_SOLO_H
#define MPIMIN_SOLO_H

#include "abi.h"
#include "calls.h"

void mpimin_solo_fill(struct mpimin_abi *abi, struct mpimin_calls *calls);

#endif
