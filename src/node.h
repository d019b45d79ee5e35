/* Nodes: which ranks share memory, and the memory that they share.
 */
#ifndef MI_NODE_H
#define MI_NODE_H

#include <stddef.h>

#include "error.h"
#include "mailbox.h"
#include "mpimin.h"
#include "store.h"

/* A node as one of its ranks sees it. */
struct mi_node {
    int rank;     /* among the mates; 0 is the leader */
    int size;     /* number of mates, this rank included */
    int attached; /* leader: mates that use the store, itself included */
    int number;   /* of the node, from 0; root's is 0 */
    int nodes;    /* number of nodes */
    mpimin_comm leaders; /* leaders whose store works; 0 elsewhere, or if
                          * there is only one */
    int stored;          /* this rank can read its node's store */
    struct mi_store *store;
    struct mi_mailbox *mailbox;
};

/* Form the nodes of 'comm': by what the ranks share in fact (machine, and the
 * memory filesystem at 'tmpdir'), or every 'ranks_per_node' consecutive ranks
 * if that is positive.  Then make and map a store of at most 'capacity' bytes
 * (0: a quarter of the filesystem) on each.  Collective over 'comm'.
 *
 * Where a store cannot be made or mapped, node->stored is 0 and 'why' says
 * the reason; if that is so on rank 0's node, it is so everywhere.  -1 is for
 * failures of MPI.
 */
int mi_node_form(struct mi_node *node, struct mpimin *mpi, mpimin_comm comm,
                 const char *tmpdir, int ranks_per_node, size_t capacity,
                 struct mi_error *why, struct mi_error *err);

/* A node of this rank alone, with a private store; 'rank' is 0. */
int mi_node_alone(struct mi_node *node, size_t capacity, struct mi_error *err);

#endif
