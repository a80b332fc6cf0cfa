/* aino_tvm.h: how kernels that TVM has built are called, and who runs their parallel loops.
 *
 * TVM's object code asks for four functions of TVM's runtime; aino_tvm.c has them, so that a library needs
 * no TVM where it runs.  One thread walks the steps of a model; the parallel loops inside of kernels use the
 * model's pool of threads.
 */
#ifndef AINO_TVM_H
#define AINO_TVM_H

#include "aino_runtime.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

enum { AINO_TVM_INT = 0, AINO_TVM_UINT = 1, AINO_TVM_FLOAT = 2 };

/* DLPack's DLTensor. */
typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t rank;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} aino_tvm_tensor;

/* TVM's TVMFFIAny: a value with its type. */
typedef struct {
    int32_t type;
    uint32_t padding;
    union {
        int64_t integer;
        void *pointer;
    } value;
} aino_tvm_any;

typedef int aino_tvm_kernel(void *self, const aino_tvm_any *arguments, int32_t count, aino_tvm_any *result);

/* Describe a dense row-major tensor on this processor; `strides` has room for `rank` numbers. */
static inline void aino_tvm_describe(aino_tvm_tensor *tensor, void *data, int code, int bits, int rank,
                                     int64_t *shape, int64_t *strides)
{
    int64_t stride = 1;
    for (int axis = rank - 1; axis >= 0; --axis) {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    *tensor = (aino_tvm_tensor){data, 1, 0, rank, (uint8_t)code, (uint8_t)bits, 1, shape, strides, 0};
}

static inline aino_tvm_any aino_tvm_integer(int64_t number)
{
    aino_tvm_any any = {1, 0, {0}};
    any.value.integer = number;
    return any;
}

static inline aino_tvm_any aino_tvm_argument(aino_tvm_tensor *tensor)
{
    aino_tvm_any any = {7, 0, {0}};
    any.value.pointer = tensor;
    return any;
}

/* Call a kernel; what it refuses is a fault of the compiler that described its arguments, and ends the process. */
void aino_tvm_call(aino_tvm_kernel *kernel, const aino_tvm_any *arguments, int32_t count);

/* Run task(argument, 0, 1) on this thread; parallel loops in it use up to `nthreads` threads of the pool. */
int aino_tvm_run(aino_pool *pool, int nthreads, aino_task task, void *argument);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
