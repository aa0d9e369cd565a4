/* Bounded blocking queue of pointers between threads. Closing wakes everybody: push then fails, pop drains what is
 * left. */
#ifndef CORE_BASE_QUEUE_H
#define CORE_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct queue;

struct queue *queue_new(size_t capacity);     /* NULL when out of memory */
void queue_free(struct queue *q);             /* does not free what is still inside */
bool queue_push(struct queue *q, void *item); /* blocks while full; false: closed, item still the caller's */
bool queue_pop(struct queue *q, void **item); /* blocks while empty; false: closed and drained */
bool queue_try_pop(struct queue *q, void **item);
void queue_close(struct queue *q);
size_t queue_len(struct queue *q);

#endif
