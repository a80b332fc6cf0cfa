/* aino_cuda_warp.h: operations of warps and asynchronous copies as instructions, from sm_80 on.
 *
 * aino_cuda_emulation.h has the same ones for machines without a device.
 */
#ifndef AINO_CUDA_WARP_H
#define AINO_CUDA_WARP_H

#define AINO_EXCHANGE(name, type)                                                              \
    static __device__ inline void aino_exchange_##name(type *result, type x, int distance)     \
    {                                                                                          \
        *result = __shfl_xor_sync(0xffffffffu, x, distance);                                   \
    }
AINO_EXCHANGE(f32, float)
AINO_EXCHANGE(f64, double)
AINO_EXCHANGE(i32, int32_t)
AINO_EXCHANGE(u32, uint32_t)

static __device__ inline void aino_exchange_i64(int64_t *result, int64_t x, int distance)
{
    *result = (int64_t)__shfl_xor_sync(0xffffffffu, (long long)x, distance);
}

static __device__ inline void aino_exchange_u64(uint64_t *result, uint64_t x, int distance)
{
    *result = (uint64_t)__shfl_xor_sync(0xffffffffu, (unsigned long long)x, distance);
}

/* D = A B + C on a tile; fragments of 32 bits and totals of `type`, which asm calls `letter`.  Volatile, so
 * that none is moved to where only some threads of the warp use its results: all must come. */
#define AINO_MMA(name, shape, types, type, letter)                                             \
    static __device__ inline void aino_mma_##name(                                             \
        type *d0, type *d1, type *d2, type *d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, \
        uint32_t b0, uint32_t b1, type c0, type c1, type c2, type c3)                          \
    {                                                                                          \
        asm volatile("mma.sync.aligned." shape ".row.col." types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, " \
            "{%8, %9}, {%10, %11, %12, %13};\n"                                                \
            : "=" letter(*d0), "=" letter(*d1), "=" letter(*d2), "=" letter(*d3)               \
            : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1),                            \
              letter(c0), letter(c1), letter(c2), letter(c3));                                 \
    }
AINO_MMA(bf16, "m16n8k16", "f32.bf16.bf16.f32", float, "f")
AINO_MMA(f16, "m16n8k16", "f32.f16.f16.f32", float, "f")
AINO_MMA(tf32, "m16n8k8", "f32.tf32.tf32.f32", float, "f")
AINO_MMA(s8_s8, "m16n8k32", "s32.s8.s8.s32", int32_t, "r")
AINO_MMA(s8_u8, "m16n8k32", "s32.s8.u8.s32", int32_t, "r")
AINO_MMA(u8_s8, "m16n8k32", "s32.u8.s8.s32", int32_t, "r")
AINO_MMA(u8_u8, "m16n8k32", "s32.u8.u8.s32", int32_t, "r")

static __device__ inline uint32_t aino_shared_address(const void *place)
{
    return (uint32_t)__cvta_generic_to_shared(place);
}

/* Not moved past stores to shared memory: volatile, with memory among what it touches. */
static __device__ inline void aino_load_matrix(
    uint32_t *r0, uint32_t *r1, uint32_t *r2, uint32_t *r3, const void *row, int turned)
{
    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(*r0), "=r"(*r1), "=r"(*r2), "=r"(*r3)
                     : "r"(aino_shared_address(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(*r0), "=r"(*r1), "=r"(*r2), "=r"(*r3)
                     : "r"(aino_shared_address(row))
                     : "memory");
}
#define aino_load_matrix_bf16 aino_load_matrix
#define aino_load_matrix_f16 aino_load_matrix
#define aino_load_matrix_i8 aino_load_matrix
#define aino_load_matrix_u8 aino_load_matrix
#define aino_load_matrix_f32 aino_load_matrix

static __device__ inline void aino_pack_bf16(uint32_t *result, float x, float y)
{
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(*result) : "f"(y), "f"(x)); /* the first one is the upper half */
}

static __device__ inline void aino_pack_f16(uint32_t *result, float x, float y)
{
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(*result) : "f"(y), "f"(x));
}

static __device__ inline void aino_unpack_bf16(float *x, float *y, uint32_t pair)
{
    *x = __uint_as_float(pair << 16);
    *y = __uint_as_float(pair & 0xffff0000u);
}

static __device__ inline void aino_unpack_f16(float *x, float *y, uint32_t pair)
{
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}\n"
        : "=f"(*x), "=f"(*y)
        : "r"(pair));
}

static __device__ inline void aino_exp2_f32(float *result, float x)
{
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(*result) : "f"(x));
}

static __device__ inline void aino_larger_f32(float *result, float x, float y)
{
    asm("max.f32 %0, %1, %2;\n" : "=f"(*result) : "f"(x), "f"(y));
}

static __device__ inline void aino_round_tf32(uint32_t *result, uint32_t bits)
{
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(*result) : "f"(__uint_as_float(bits)));
}

/* Copy 4, 8 or 16 bytes to shared memory, or zeros; at once where the source is not aligned to them.  The
 * instruction wants an aligned address even where it takes nothing from there. */
static __device__ inline void aino_copy(void *target, const void *place, int bytes, bool present)
{
    const void *source = (const void *)((uintptr_t)place & ~(uintptr_t)(bytes - 1));
    if (source == place || !present) {
        int taken = present ? bytes : 0;
        if (bytes == 16)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(aino_shared_address(target)),
                         "l"(source), "r"(taken)
                         : "memory");
        else if (bytes == 8)
            asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(aino_shared_address(target)),
                         "l"(source), "r"(taken)
                         : "memory");
        else
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(aino_shared_address(target)),
                         "l"(source), "r"(taken)
                         : "memory");
        return;
    }
#pragma unroll 1
    for (int i = 0; i < bytes; ++i) /* seldom, and short: it must not take registers of what is done always */
        ((char *)target)[i] = ((const char *)place)[i];
}

#define AINO_CLOSE_COPIES() asm volatile("cp.async.commit_group;\n" ::: "memory")
#define AINO_AWAIT_COPIES(open) asm volatile("cp.async.wait_group %0;\n" ::"n"(open) : "memory")

#endif
