/* Holds one compiled library and does what standard input says: tests run it under an emulator.
 *
 * Numbers are int64_t, least byte first.  Commands: 1 (create a context), 2 (run), 3 (read memory and free
 * it).  Answers begin with a status.
 */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int create_function(const void *weights, int nthreads, void **context);
typedef int run_function(void *context, const void *const *in, void *const *out);

static void *library, *context;
static char *weights;
static run_function *run;

static void take(void *memory, int64_t bytes)
{
    if (fread(memory, 1, (size_t)bytes, stdin) != (size_t)bytes)
        exit(0); /* the other end is gone */
}

static int64_t number(void)
{
    int64_t value;
    take(&value, sizeof value);
    return value;
}

static void give(const void *memory, int64_t bytes)
{
    if (fwrite(memory, 1, (size_t)bytes, stdout) != (size_t)bytes)
        exit(3);
}

static void give_number(int64_t value)
{
    give(&value, sizeof value);
}

static void *room(int64_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes ? (size_t)bytes : 1))
        exit(4);
    return memory;
}

static void *symbol(const char *prefix, const char *name)
{
    char whole[160];
    snprintf(whole, sizeof whole, "%s_%s", prefix, name);
    void *found = dlsym(library, whole);
    if (!found) {
        fprintf(stderr, "no %s: %s\n", whole, dlerror());
        exit(5);
    }
    return found;
}

/* prefix, offset of its weights, threads -> status */
static void create(void)
{
    char prefix[128] = {0};
    create_function *make;
    take(prefix, sizeof prefix - 1);
    int64_t offset = number(), threads = number();
    run = (run_function *)symbol(prefix, "run");
    make = (create_function *)symbol(prefix, "create");
    give_number(make(weights + offset, (int)threads, &context));
}

/* inputs, outputs (bytes, -1: the model allocates it) -> status, bytes or addresses of the outputs */
static void perform(void)
{
    void *in[1024], *out[1024], *made[1024];
    int64_t sizes[1024], inputs = number();
    for (int64_t i = 0; i < inputs; ++i) {
        int64_t bytes = number();
        in[i] = room(bytes);
        take(in[i], bytes);
    }
    int64_t outputs = number();
    for (int64_t i = 0; i < outputs; ++i) {
        sizes[i] = number();
        made[i] = NULL;
        out[i] = sizes[i] < 0 ? &made[i] : memset(room(sizes[i]), 0xA5, (size_t)sizes[i]);
    }
    int status = run(context, (const void *const *)in, out);
    give_number(status);
    for (int64_t i = 0; i < outputs && !status; ++i) {
        if (sizes[i] < 0)
            give_number((int64_t)(intptr_t)made[i]);
        else
            give(out[i], sizes[i]);
    }
    for (int64_t i = 0; i < inputs; ++i)
        free(in[i]);
    for (int64_t i = 0; i < outputs; ++i)
        if (sizes[i] >= 0)
            free(out[i]);
}

int main(int argc, char **argv)
{
    FILE *file;
    long bytes;
    if (argc != 3)
        return 2;
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 5;
    }
    file = fopen(argv[2], "rb");
    if (!file || fseek(file, 0, SEEK_END) || (bytes = ftell(file)) < 0)
        return 6;
    rewind(file);
    weights = room(bytes);
    if (fread(weights, 1, (size_t)bytes, file) != (size_t)bytes)
        return 6;
    for (;;) {
        switch (number()) {
        case 1:
            create();
            break;
        case 2:
            perform();
            break;
        case 3: {
            char *memory = (char *)(intptr_t)number();
            give(memory, number());
            free(memory);
            break;
        }
        default:
            return 7;
        }
        fflush(stdout);
    }
}
