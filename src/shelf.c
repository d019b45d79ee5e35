#include "shelf.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHAINS 4096u /* some modules each, of the largest programs */

enum state {
    READING = 0,
    READY = 1,
    DONE = 2 /* taken, thrown away, or not to be had */
};

struct place {
    struct place *chain;
    struct place *later; /* in the order of mi_shelf_begin(), unless DONE */
    struct mi_answer answer;
    enum mi_query query;
    enum state state;
    uint64_t number;
    char key[];
};

struct mi_shelf {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t room;
    pthread_cond_t ready;
    struct place *chains[CHAINS];
    struct place *first, **last; /* not DONE */
    uint64_t count, bytes;
    int full; /* until half of it has been taken */
    int closed;
};

int mi_shelf_create(struct mi_shelf **result, struct mi_error *err)
{
    struct mi_shelf *shelf = calloc(1, sizeof(*shelf));

    if (!shelf)
        return mi_fail_errno(err, "shelf");
    pthread_mutex_init(&shelf->lock, NULL);
    pthread_cond_init(&shelf->room, NULL);
    pthread_cond_init(&shelf->ready, NULL);
    shelf->last = &shelf->first;
    *result = shelf;
    return 0;
}

void mi_shelf_close(struct mi_shelf *shelf)
{
    pthread_mutex_lock(&shelf->lock);
    shelf->closed = 1;
    pthread_cond_broadcast(&shelf->room);
    pthread_cond_broadcast(&shelf->ready);
    pthread_mutex_unlock(&shelf->lock);
}

void mi_shelf_destroy(struct mi_shelf *shelf)
{
    struct place *place, *next;

    if (!shelf)
        return;
    for (size_t i = 0; i < CHAINS; i++) {
        for (place = shelf->chains[i]; place; place = next) {
            next = place->chain;
            mi_answer_clear(&place->answer);
            free(place);
        }
    }
    pthread_cond_destroy(&shelf->ready);
    pthread_cond_destroy(&shelf->room);
    pthread_mutex_destroy(&shelf->lock);
    free(shelf);
}

static struct place *find(struct mi_shelf *shelf, enum mi_query query,
                          const char *key)
{
    struct place *place =
        shelf->chains[mi_key_hash(query, key, strlen(key)) % CHAINS];

    while (place && (place->query != query || strcmp(place->key, key) != 0))
        place = place->chain;
    return place;
}

static struct place *add(struct mi_shelf *shelf, enum mi_query query,
                         const char *key, enum state state)
{
    const size_t size = strlen(key) + 1;
    struct place **chain =
        &shelf->chains[mi_key_hash(query, key, size - 1) % CHAINS];
    struct place *place = calloc(1, sizeof(*place) + size);

    if (!place)
        return NULL;
    place->query = query;
    place->state = state;
    memcpy(place->key, key, size);
    place->chain = *chain;
    *chain = place;
    return place;
}

/* Take it out of the order, with what it holds. */
static void finish(struct mi_shelf *shelf, struct place *place)
{
    struct place **p = &shelf->first;

    while (*p != place)
        p = &(*p)->later;
    *p = place->later;
    if (shelf->last == &place->later)
        shelf->last = p;
    if (place->state == READY)
        shelf->bytes -= place->answer.entry.size;
    place->state = DONE;
    place->answer = (struct mi_answer){0};
    if (shelf->full && shelf->bytes <= MI_SHELF_BYTES / 2) {
        shelf->full = 0;
        pthread_cond_broadcast(&shelf->room);
    }
}

int mi_shelf_begin(struct mi_shelf *shelf, enum mi_query query,
                   const char *key)
{
    struct place *place = NULL;

    pthread_mutex_lock(&shelf->lock);
    while (shelf->full && !shelf->closed)
        pthread_cond_wait(&shelf->room, &shelf->lock);
    if (!shelf->closed && !find(shelf, query, key))
        place = add(shelf, query, key, READING);
    if (place) {
        place->number = shelf->count++;
        *shelf->last = place;
        shelf->last = &place->later;
    }
    pthread_mutex_unlock(&shelf->lock);
    return place != NULL;
}

void mi_shelf_put(struct mi_shelf *shelf, enum mi_query query, const char *key,
                  struct mi_answer *answer)
{
    struct place *place;

    pthread_mutex_lock(&shelf->lock);
    place = find(shelf, query, key);
    if (answer) {
        place->answer = *answer;
        place->answer.entry.key = place->key;
        place->state = READY;
        shelf->bytes += answer->entry.size;
        if (shelf->bytes >= MI_SHELF_BYTES)
            shelf->full = 1;
        *answer = (struct mi_answer){0};
    } else {
        finish(shelf, place);
    }
    pthread_cond_broadcast(&shelf->ready);
    pthread_mutex_unlock(&shelf->lock);
}

/* Throw away what the program has passed by when it takes number 'taken'. */
static void throw_away(struct mi_shelf *shelf, uint64_t taken)
{
    struct mi_answer answer;
    struct place *first;

    while ((first = shelf->first) && first->state == READY &&
           first->number + MI_SHELF_PASSED < taken) {
        answer = first->answer;
        finish(shelf, first);
        mi_answer_clear(&answer);
    }
}

int mi_shelf_take(struct mi_shelf *shelf, enum mi_query query, const char *key,
                  struct mi_answer *answer)
{
    struct place *place;
    int found = 0;

    pthread_mutex_lock(&shelf->lock);
    place = find(shelf, query, key);
    while (place && place->state == READING && !shelf->closed)
        pthread_cond_wait(&shelf->ready, &shelf->lock);
    if (place && place->state == READY) {
        *answer = place->answer;
        answer->entry.key = key;
        finish(shelf, place);
        throw_away(shelf, place->number);
        found = 1;
    } else if (!place) {
        add(shelf, query, key, DONE); /* without memory it is read again */
    }
    pthread_mutex_unlock(&shelf->lock);
    return found;
}
