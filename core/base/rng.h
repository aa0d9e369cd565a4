/* Deterministic random numbers (xoshiro256**, seeded by splitmix64). State is plain data, so checkpoints can store it.
 */
#ifndef CORE_BASE_RNG_H
#define CORE_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
double rng_uniform(struct rng *r);                     /* [0, 1) */
double rng_range(struct rng *r, double lo, double hi); /* [lo, hi) */
int rng_int(struct rng *r, int n);                     /* [0, n), n > 0 */
double rng_normal(struct rng *r);                      /* mean 0, standard deviation 1 */

#endif
