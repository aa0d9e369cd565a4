/*
 * The pickle machine (PEP 307, 3154; protocols 0 to 4 as far as torch.save writes them): a stack of values, a stack of
 * marks, a memo. What makes pickles dangerous is GLOBAL + REDUCE; here a global is a row of `globals` below and REDUCE
 * calls that row's C function on an argument tuple, which only builds a value.
 */
#include "core/tensor/pickle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Opcodes in all pickles of a file: a large network needs about 100 for each of a few thousand tensors. */
#define MAX_OPS 4000000
#define MAX_TUPLE 64 /* sizes and strides; keeps a recalled huge tuple from costing time again and again */
#define CHUNK_VALUES 1024

struct chunk {
    struct chunk *next;
    size_t n;
    struct value v[CHUNK_VALUES];
};

struct stack { /* of borrowed values */
    struct value **v;
    size_t n, cap;
};

struct pickle {
    struct chunk *chunks;
    struct stack lists;    /* values that own a seq.items array */
    struct stack storages; /* every STORAGE */
    size_t ops;
};

/* One run: the input and the machine's registers. */
struct run {
    struct pickle *p;
    const uint8_t *at, *end;
    struct stack stack, memo;
    size_t *marks; /* stack heights */
    size_t n_marks, cap_marks;
    size_t ops;
    struct err *e;
};

/* ---- memory --------------------------------------------------------------------------------------------------------
 */

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory for the pickle");
}

static int push(struct stack *s, struct value *v, struct err *e)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        struct value **grown = realloc(s->v, cap * sizeof(struct value *));
        if (!grown)
            return no_memory(e);
        s->v = grown;
        s->cap = cap;
    }
    s->v[s->n++] = v;
    return 0;
}

static struct value *value_new(struct pickle *p, enum value_kind kind, struct err *e)
{
    if (!p->chunks || p->chunks->n == CHUNK_VALUES) {
        struct chunk *c = malloc(sizeof *c);
        if (!c) {
            no_memory(e);
            return NULL;
        }
        c->next = p->chunks;
        c->n = 0;
        p->chunks = c;
    }
    struct value *v = &p->chunks->v[p->chunks->n++];
    memset(v, 0, sizeof *v);
    v->kind = kind;
    bool owns = kind == VALUE_TUPLE || kind == VALUE_LIST || kind == VALUE_DICT;
    if ((owns && push(&p->lists, v, e)) || (kind == VALUE_STORAGE && push(&p->storages, v, e)))
        return NULL;
    return v;
}

static int seq_append(struct value *seq, struct value *const *items, size_t n, struct err *e)
{
    if (seq->u.seq.cap - seq->u.seq.n < n) {
        size_t cap = seq->u.seq.n + n > 2 * seq->u.seq.cap ? seq->u.seq.n + n : 2 * seq->u.seq.cap;
        struct value **grown = realloc(seq->u.seq.items, cap * sizeof(struct value *));
        if (!grown)
            return no_memory(e);
        seq->u.seq.items = grown;
        seq->u.seq.cap = cap;
    }
    if (n)
        memcpy(seq->u.seq.items + seq->u.seq.n, items, n * sizeof(struct value *));
    seq->u.seq.n += n;
    return 0;
}

struct pickle *pickle_new(void)
{
    return calloc(1, sizeof(struct pickle));
}

void pickle_free(struct pickle *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->lists.n; i++)
        free(p->lists.v[i]->u.seq.items);
    free(p->lists.v);
    free(p->storages.v);
    for (struct chunk *c = p->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(p);
}

struct value *const *pickle_storages(const struct pickle *p, size_t *n)
{
    *n = p->storages.n;
    return p->storages.v;
}

struct value *value_dict_get(const struct value *dict, const char *key)
{
    for (size_t i = dict->u.seq.n; i >= 2; i -= 2) {
        const struct value *k = dict->u.seq.items[i - 2];
        if (k->kind == VALUE_STR && k->u.text.len == strlen(key) && !memcmp(k->u.text.p, key, k->u.text.len))
            return dict->u.seq.items[i - 1];
    }
    return NULL;
}

/* ---- globals: what REDUCE may do ------------------------------------------------------------------------------------
 */

static int malformed(struct run *r, const char *what)
{
    return err_set(r->e, ERR_CORRUPT, "pickle: %s", what);
}

static bool is_int_tuple(const struct value *v)
{
    if (v->kind != VALUE_TUPLE || v->u.seq.n > MAX_TUPLE)
        return false;
    for (size_t i = 0; i < v->u.seq.n; i++)
        if (v->u.seq.items[i]->kind != VALUE_INT)
            return false;
    return true;
}

/* OrderedDict() or OrderedDict([[key, value], ...]), the form Python 2 wrote. */
static int make_dict(struct run *r, const struct value *args, struct value **out)
{
    struct value *d = value_new(r->p, VALUE_DICT, r->e);
    if (!d)
        return ERR_NOMEM;
    *out = d;
    if (args->u.seq.n == 0)
        return 0;
    const struct value *list = args->u.seq.items[0];
    if (args->u.seq.n != 1 || (list->kind != VALUE_LIST && list->kind != VALUE_TUPLE))
        return malformed(r, "OrderedDict takes a list of pairs");
    r->p->ops += list->u.seq.n; /* a recalled list is copied each time: that counts */
    for (size_t i = 0; i < list->u.seq.n; i++) {
        const struct value *pair = list->u.seq.items[i];
        if ((pair->kind != VALUE_LIST && pair->kind != VALUE_TUPLE) || pair->u.seq.n != 2)
            return malformed(r, "OrderedDict takes a list of pairs");
        int rc = seq_append(d, pair->u.seq.items, 2, r->e);
        if (rc)
            return rc;
    }
    return 0;
}

/* (storage, offset, size, stride, ...): what follows is about gradients and hooks. */
static int make_tensor(struct run *r, const struct value *args, struct value **out)
{
    struct value *const *a = args->u.seq.items;
    if (args->u.seq.n < 4 || a[0]->kind != VALUE_STORAGE || a[1]->kind != VALUE_INT || !is_int_tuple(a[2]) ||
        !is_int_tuple(a[3]) || a[2]->u.seq.n != a[3]->u.seq.n)
        return malformed(r, "a tensor is not made of storage, offset, size and stride");
    struct value *t = value_new(r->p, VALUE_TENSOR, r->e);
    if (!t)
        return ERR_NOMEM;
    t->u.tensor.storage = a[0];
    t->u.tensor.offset = a[1]->u.i;
    t->u.tensor.size = a[2];
    t->u.tensor.stride = a[3];
    *out = t;
    return 0;
}

/* (tensor, requires_grad, hooks) is that tensor. */
static int make_parameter(struct run *r, const struct value *args, struct value **out)
{
    if (args->u.seq.n < 1 || args->u.seq.items[0]->kind != VALUE_TENSOR)
        return malformed(r, "a parameter holds no tensor");
    *out = args->u.seq.items[0];
    return 0;
}

/* torch.Size((1, 2)) is that tuple. */
static int make_size(struct run *r, const struct value *args, struct value **out)
{
    if (args->u.seq.n != 1 || !is_int_tuple(args->u.seq.items[0]))
        return malformed(r, "a torch.Size is not a tuple of integers");
    *out = args->u.seq.items[0];
    return 0;
}

struct global {
    const char *module, *name;
    int (*call)(struct run *r, const struct value *args, struct value **out); /* NULL: a storage type, never called */
};

static const struct global globals[] = {
    {"collections", "OrderedDict", make_dict},
    {"torch._utils", "_rebuild_tensor", make_tensor},
    {"torch._utils", "_rebuild_tensor_v2", make_tensor},
    {"torch._utils", "_rebuild_parameter", make_parameter},
    {"torch", "Size", make_size},
    {"torch", "FloatStorage", NULL},
    {"torch", "HalfStorage", NULL},
    {"torch", "BFloat16Storage", NULL},
    {"torch", "DoubleStorage", NULL},
    {"torch", "LongStorage", NULL},
    {"torch", "IntStorage", NULL},
    {"torch", "ShortStorage", NULL},
    {"torch", "CharStorage", NULL},
    {"torch", "ByteStorage", NULL},
    {"torch", "BoolStorage", NULL},
};

static bool text_is(const uint8_t *p, size_t len, const char *s)
{
    return strlen(s) == len && !memcmp(p, s, len);
}

static int make_global(struct run *r, const uint8_t *module, size_t module_len, const uint8_t *name, size_t name_len)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (!text_is(module, module_len, globals[i].module) || !text_is(name, name_len, globals[i].name))
            continue;
        struct value *v = value_new(r->p, VALUE_GLOBAL, r->e);
        if (!v)
            return ERR_NOMEM;
        v->u.i = (int64_t)i;
        return push(&r->stack, v, r->e);
    }
    char a[100], b[100];
    return err_set(r->e, ERR_UNSUPPORTED, "the pickle names %s.%s, which is neither a tensor nor a dictionary",
                   printable(a, sizeof a, module, module_len), printable(b, sizeof b, name, name_len));
}

/* ("storage", type, key, location, numel[, (view key, offset, numel)]) */
static int make_storage(struct run *r, const struct value *id, struct value **out)
{
    struct value *const *a = id->u.seq.items;
    if (id->kind != VALUE_TUPLE || id->u.seq.n < 5 || a[0]->kind != VALUE_STR ||
        !text_is(a[0]->u.text.p, a[0]->u.text.len, "storage") || a[1]->kind != VALUE_GLOBAL ||
        globals[a[1]->u.i].call || a[2]->kind != VALUE_STR || a[4]->kind != VALUE_INT || a[4]->u.i < 0)
        return malformed(r, "a persistent id that is not a storage");
    struct value *v = value_new(r->p, VALUE_STORAGE, r->e);
    if (!v)
        return ERR_NOMEM;
    const char *type = globals[a[1]->u.i].name;
    v->u.storage.type = element_by_torch(type, strlen(type));
    v->u.storage.key = a[2];
    v->u.storage.numel = v->u.storage.view_numel = a[4]->u.i;
    if (id->u.seq.n > 5 && a[5]->kind != VALUE_NONE) {
        struct value *const *view = a[5]->u.seq.items;
        if (a[5]->kind != VALUE_TUPLE || a[5]->u.seq.n != 3 || view[1]->kind != VALUE_INT || view[1]->u.i < 0 ||
            view[2]->kind != VALUE_INT || view[2]->u.i < 0 || view[1]->u.i > a[4]->u.i ||
            view[2]->u.i > a[4]->u.i - view[1]->u.i)
            return malformed(r, "a view that is not inside its storage");
        v->u.storage.view_offset = view[1]->u.i;
        v->u.storage.view_numel = view[2]->u.i;
    }
    *out = v;
    return 0;
}

/* ---- the machine ---------------------------------------------------------------------------------------------------
 */

static const uint8_t *take(struct run *r, uint64_t n)
{
    if ((uint64_t)(r->end - r->at) < n) {
        malformed(r, "ends in the middle of an argument");
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    return p;
}

/* A little-endian unsigned argument of `width` bytes. */
static int take_uint(struct run *r, int width, uint64_t *out)
{
    const uint8_t *p = take(r, (uint64_t)width);
    if (!p)
        return ERR_CORRUPT;
    *out = 0;
    for (int i = 0; i < width; i++)
        *out |= (uint64_t)p[i] << (8 * i);
    return 0;
}

/* The text up to a newline. */
static const uint8_t *take_line(struct run *r, size_t *len)
{
    const uint8_t *p = r->at, *nl = memchr(p, '\n', (size_t)(r->end - p));
    if (!nl) {
        malformed(r, "ends in the middle of a line");
        return NULL;
    }
    *len = (size_t)(nl - p);
    r->at = nl + 1;
    return p;
}

static size_t floor_of(const struct run *r)
{
    return r->n_marks ? r->marks[r->n_marks - 1] : 0;
}

/* The n topmost values above the last mark, or NULL. */
static struct value **top(struct run *r, size_t n)
{
    if (r->stack.n - floor_of(r) < n) {
        malformed(r, "takes from an empty stack");
        return NULL;
    }
    return r->stack.v + r->stack.n - n;
}

static int push_new(struct run *r, enum value_kind kind, struct value **out)
{
    *out = value_new(r->p, kind, r->e);
    return *out ? push(&r->stack, *out, r->e) : ERR_NOMEM;
}

static int push_int(struct run *r, enum value_kind kind, int64_t i)
{
    struct value *v;
    int rc = push_new(r, kind, &v);
    if (!rc)
        v->u.i = i;
    return rc;
}

static int push_text(struct run *r, enum value_kind kind, int width)
{
    uint64_t n;
    struct value *v;
    const uint8_t *p = NULL;
    int rc = take_uint(r, width, &n);
    if (!rc && !(p = take(r, n)))
        rc = ERR_CORRUPT;
    if (!rc)
        rc = push_new(r, kind, &v);
    if (!rc) {
        v->u.text.p = p;
        v->u.text.len = (size_t)n;
    }
    return rc;
}

/* LONG1, LONG4: two's complement of any length. */
static int push_long(struct run *r, int width)
{
    int rc = push_text(r, VALUE_BIGINT, width);
    if (rc)
        return rc;
    struct value *v = r->stack.v[r->stack.n - 1];
    size_t n = v->u.text.len;
    const uint8_t *p = v->u.text.p;
    if (n > 8)
        return 0;
    uint64_t x = n && p[n - 1] & 0x80 ? ~(uint64_t)0 : 0;
    for (size_t i = n; i-- > 0;)
        x = x << 8 | p[i];
    v->kind = VALUE_INT;
    v->u.i = (int64_t)x;
    return 0;
}

static int push_float(struct run *r)
{
    const uint8_t *p = take(r, 8);
    struct value *v;
    uint64_t bits = 0;
    if (!p)
        return ERR_CORRUPT;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    int rc = push_new(r, VALUE_FLOAT, &v);
    if (!rc)
        memcpy(&v->u.f, &bits, sizeof bits);
    return rc;
}

static int set_mark(struct run *r)
{
    if (r->n_marks == r->cap_marks) {
        size_t cap = r->cap_marks ? 2 * r->cap_marks : 16;
        size_t *grown = realloc(r->marks, cap * sizeof *grown);
        if (!grown)
            return no_memory(r->e);
        r->marks = grown;
        r->cap_marks = cap;
    }
    r->marks[r->n_marks++] = r->stack.n;
    return 0;
}

/* Removes the last mark; the values above it are *items, *n, still on the stack's memory: use them before pushing. */
static int pop_mark(struct run *r, struct value ***items, size_t *n)
{
    *items = NULL;
    *n = 0;
    if (!r->n_marks)
        return malformed(r, "misses a mark");
    size_t base = r->marks[--r->n_marks];
    *items = r->stack.v + base;
    *n = r->stack.n - base;
    r->stack.n = base;
    return 0;
}

static int push_tuple(struct run *r, struct value **items, size_t n)
{
    struct value *v = value_new(r->p, VALUE_TUPLE, r->e);
    int rc = v ? seq_append(v, items, n, r->e) : ERR_NOMEM;
    return rc ? rc : push(&r->stack, v, r->e);
}

static int small_tuple(struct run *r, size_t n)
{
    struct value **items = top(r, n);
    if (!items)
        return ERR_CORRUPT;
    r->stack.n -= n;
    return push_tuple(r, items, n);
}

static int marked_seq(struct run *r, enum value_kind kind)
{
    struct value **items;
    size_t n;
    int rc = pop_mark(r, &items, &n);
    if (rc)
        return rc;
    if (kind == VALUE_DICT && n % 2)
        return malformed(r, "a key without a value");
    struct value *v = value_new(r->p, kind, r->e);
    rc = v ? seq_append(v, items, n, r->e) : ERR_NOMEM;
    return rc ? rc : push(&r->stack, v, r->e);
}

/* APPEND(S), SETITEM(S): n values go into the list or dictionary below them. */
static int extend(struct run *r, enum value_kind kind, struct value **items, size_t n)
{
    struct value **target = top(r, 1);
    if (!target)
        return ERR_CORRUPT;
    if ((*target)->kind != kind || (kind == VALUE_DICT && n % 2))
        return malformed(r, "adds to something that is not a list or a dictionary");
    return seq_append(*target, items, n, r->e);
}

static int extend_marked(struct run *r, enum value_kind kind)
{
    struct value **items;
    size_t n;
    int rc = pop_mark(r, &items, &n);
    return rc ? rc : extend(r, kind, items, n);
}

static int extend_top(struct run *r, enum value_kind kind, size_t n)
{
    struct value **items = top(r, n);
    if (!items)
        return ERR_CORRUPT;
    r->stack.n -= n;
    return extend(r, kind, items, n);
}

static int memo_put(struct run *r, uint64_t i)
{
    struct value **v = top(r, 1);
    if (!v)
        return ERR_CORRUPT;
    if (i > r->ops) /* writers number from 0 upwards, one for each value */
        return malformed(r, "a memo number out of order");
    while (r->memo.n <= i)
        if (push(&r->memo, NULL, r->e))
            return ERR_NOMEM;
    r->memo.v[i] = *v;
    return 0;
}

static int memo_get(struct run *r, uint64_t i)
{
    if (i >= r->memo.n || !r->memo.v[i])
        return malformed(r, "recalls a value that was never stored");
    return push(&r->stack, r->memo.v[i], r->e);
}

static int memo_op(struct run *r, int width, int (*op)(struct run *, uint64_t))
{
    uint64_t i;
    int rc = take_uint(r, width, &i);
    return rc ? rc : op(r, i);
}

static int op_global(struct run *r)
{
    size_t module_len, name_len;
    const uint8_t *module = take_line(r, &module_len);
    const uint8_t *name = module ? take_line(r, &name_len) : NULL;
    return name ? make_global(r, module, module_len, name, name_len) : ERR_CORRUPT;
}

static int op_stack_global(struct run *r)
{
    struct value **a = top(r, 2);
    if (!a)
        return ERR_CORRUPT;
    if (a[0]->kind != VALUE_STR || a[1]->kind != VALUE_STR)
        return malformed(r, "a global that is not named by text");
    r->stack.n -= 2;
    return make_global(r, a[0]->u.text.p, a[0]->u.text.len, a[1]->u.text.p, a[1]->u.text.len);
}

static int op_reduce(struct run *r)
{
    struct value **a = top(r, 2), *v = NULL;
    if (!a)
        return ERR_CORRUPT;
    if (a[0]->kind != VALUE_GLOBAL || !globals[a[0]->u.i].call || a[1]->kind != VALUE_TUPLE)
        return malformed(r, "calls something that is not a known function");
    int rc = globals[a[0]->u.i].call(r, a[1], &v);
    if (rc)
        return rc;
    r->stack.n -= 2;
    return push(&r->stack, v, r->e);
}

/* Attributes of an OrderedDict (its `_metadata`) say nothing about the weights: dropped. */
static int op_build(struct run *r)
{
    struct value **a = top(r, 2);
    if (!a)
        return ERR_CORRUPT;
    if (a[0]->kind != VALUE_DICT || (a[1]->kind != VALUE_DICT && a[1]->kind != VALUE_NONE))
        return malformed(r, "sets attributes of something that is not a dictionary");
    r->stack.n--;
    return 0;
}

static int op_persistent_id(struct run *r)
{
    struct value **a = top(r, 1), *v = NULL;
    if (!a)
        return ERR_CORRUPT;
    int rc = make_storage(r, *a, &v);
    if (rc)
        return rc;
    r->stack.n--;
    return push(&r->stack, v, r->e);
}

static int op_pop(struct run *r)
{
    if (r->n_marks && floor_of(r) == r->stack.n) {
        r->n_marks--;
        return 0;
    }
    if (!top(r, 1))
        return ERR_CORRUPT;
    r->stack.n--;
    return 0;
}

static int op_pop_mark(struct run *r)
{
    struct value **items;
    size_t n;
    return pop_mark(r, &items, &n);
}

static int op_dup(struct run *r)
{
    struct value **v = top(r, 1);
    return v ? push(&r->stack, *v, r->e) : ERR_CORRUPT;
}

static int op_proto(struct run *r)
{
    uint64_t version;
    int rc = take_uint(r, 1, &version);
    if (!rc && version > 5)
        return err_set(r->e, ERR_UNSUPPORTED, "pickle protocol %" PRIu64 " is not known", version);
    return rc;
}

static int op_frame(struct run *r)
{
    uint64_t n;
    int rc = take_uint(r, 8, &n);
    if (!rc && n > (uint64_t)(r->end - r->at))
        return malformed(r, "a frame longer than the file");
    return rc;
}

static int op_int(struct run *r, int width)
{
    uint64_t x;
    int rc = take_uint(r, width, &x);
    return rc ? rc : push_int(r, VALUE_INT, width == 4 ? (int32_t)(uint32_t)x : (int64_t)x);
}

static int op_empty(struct run *r, enum value_kind kind)
{
    struct value *v;
    return push_new(r, kind, &v);
}

/* Numbers, texts and constants. Returns 1 for an opcode that is none of these. */
static int step_constant(struct run *r, uint8_t op)
{
    switch (op) {
    case 'N':
        return op_empty(r, VALUE_NONE);
    case 0x88: /* NEWTRUE, NEWFALSE */
    case 0x89:
        return push_int(r, VALUE_BOOL, op == 0x88);
    case 'K': /* BININT1, BININT2, BININT */
        return op_int(r, 1);
    case 'M':
        return op_int(r, 2);
    case 'J':
        return op_int(r, 4);
    case 0x8a: /* LONG1, LONG4 */
        return push_long(r, 1);
    case 0x8b:
        return push_long(r, 4);
    case 'G':
        return push_float(r);
    case 'U': /* SHORT_BINSTRING and BINSTRING: the texts of Python 2 */
    case 0x8c:
        return push_text(r, VALUE_STR, 1);
    case 'T':
    case 'X':
        return push_text(r, VALUE_STR, 4);
    case 0x8d:
        return push_text(r, VALUE_STR, 8);
    case 'C': /* SHORT_BINBYTES, BINBYTES */
        return push_text(r, VALUE_BYTES, 1);
    case 'B':
        return push_text(r, VALUE_BYTES, 4);
    default:
        return 1;
    }
}

/* Lists, tuples and dictionaries. */
static int step_container(struct run *r, uint8_t op)
{
    switch (op) {
    case '}':
        return op_empty(r, VALUE_DICT);
    case ']':
        return op_empty(r, VALUE_LIST);
    case ')':
        return op_empty(r, VALUE_TUPLE);
    case 0x85: /* TUPLE1, TUPLE2, TUPLE3 */
    case 0x86:
    case 0x87:
        return small_tuple(r, (size_t)(op - 0x84));
    case 't':
        return marked_seq(r, VALUE_TUPLE);
    case 'l':
        return marked_seq(r, VALUE_LIST);
    case 'd':
        return marked_seq(r, VALUE_DICT);
    case 'a':
        return extend_top(r, VALUE_LIST, 1);
    case 'e':
        return extend_marked(r, VALUE_LIST);
    case 's':
        return extend_top(r, VALUE_DICT, 2);
    case 'u':
        return extend_marked(r, VALUE_DICT);
    default:
        return 1;
    }
}

/* The stack, the memo, and what builds objects. */
static int step_machine(struct run *r, uint8_t op)
{
    switch (op) {
    case 0x80:
        return op_proto(r);
    case 0x95:
        return op_frame(r);
    case '(':
        return set_mark(r);
    case '0':
        return op_pop(r);
    case '1':
        return op_pop_mark(r);
    case '2':
        return op_dup(r);
    case 'q':
        return memo_op(r, 1, memo_put);
    case 'r':
        return memo_op(r, 4, memo_put);
    case 0x94: /* MEMOIZE */
        return memo_put(r, r->memo.n);
    case 'h':
        return memo_op(r, 1, memo_get);
    case 'j':
        return memo_op(r, 4, memo_get);
    case 'c':
        return op_global(r);
    case 0x93:
        return op_stack_global(r);
    case 'R':
        return op_reduce(r);
    case 'b':
        return op_build(r);
    case 'Q':
        return op_persistent_id(r);
    default:
        return err_set(r->e, ERR_UNSUPPORTED, "pickle: opcode 0x%02x is not accepted", op);
    }
}

static int step(struct run *r, uint8_t op)
{
    int rc = step_constant(r, op);
    if (rc == 1)
        rc = step_container(r, op);
    if (rc == 1)
        rc = step_machine(r, op);
    return rc;
}

static int run_to_stop(struct run *r, struct value **out)
{
    for (;;) {
        if (r->at == r->end)
            return malformed(r, "has no end");
        uint8_t op = *r->at++;
        if (op == '.')
            break;
        r->ops++;
        if (++r->p->ops > MAX_OPS)
            return err_set(r->e, ERR_LIMIT, "pickle: more than %d operations", MAX_OPS);
        int rc = step(r, op);
        if (rc)
            return rc;
    }
    struct value **v = top(r, 1);
    if (!v)
        return ERR_CORRUPT;
    *out = *v;
    return 0;
}

int pickle_run(struct pickle *p, const uint8_t *data, size_t len, struct value **out, size_t *used, struct err *e)
{
    struct run r = {.p = p, .at = data, .end = data + len, .e = e};
    int rc = run_to_stop(&r, out);
    *used = (size_t)(r.at - data);
    free(r.stack.v);
    free(r.memo.v);
    free(r.marks);
    return rc;
}
