/* aino_cuda_tile.h: signals (mbarriers) and copies of tiles (TMA) as instructions of sm_90a.
 *
 * aino_cuda_tile_emulation.h has the same ones for machines without a device.
 */
#ifndef AINO_CUDA_TILE_H
#define AINO_CUDA_TILE_H

#define AINO_WARP_BARRIER() __syncwarp()

#define AINO_SIGNALS(name, count) __shared__ __align__(8) uint64_t name[count]

/* By thread 0; a barrier must follow. */
static __device__ inline void aino_start_signals(uint64_t *signals, int count, int arrivals)
{
    if (threadIdx.x != 0)
        return;
    for (int i = 0; i < count; ++i)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(aino_shared_address(signals + i)), "r"(arrivals)
                     : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); /* so that copies of tiles see them */
}

static __device__ inline void aino_arrive(uint64_t *signal, int bytes)
{
    if (bytes)
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(aino_shared_address(signal)),
                     "r"(bytes)
                     : "memory");
    else
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(aino_shared_address(signal)) : "memory");
}

/* Wait till the phase of this parity is over. */
static __device__ inline void aino_await_signal(uint64_t *signal, int parity)
{
    uint32_t over;
    do
        asm volatile("{\n.reg .pred over;\nmbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, over;\n}\n"
                     : "=r"(over)
                     : "r"(aino_shared_address(signal)), "r"(parity)
                     : "memory");
    while (!over);
}

/* What the driver makes of a map; kernels take it as a parameter. */
typedef struct __align__(64) {
    uint64_t words[16];
} aino_map;

#define AINO_MAP_PARAMETER const __grid_constant__ aino_map

#define AINO_DEFINE_COPY_TILE(rank, places, coordinates, ...)                                  \
    static __device__ inline void aino_copy_tile_##rank(void *target, const aino_map *map, uint64_t *signal, \
                                                        __VA_ARGS__)                           \
    {                                                                                          \
        asm volatile("cp.async.bulk.tensor." #rank "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes " \
                     "[%0], [%1, {" places "}], [%2];\n" ::"r"(aino_shared_address(target)),   \
                     "l"(map), "r"(aino_shared_address(signal)), coordinates                   \
                     : "memory");                                                              \
    }
#define AINO_BOTH(a, b) "r"(a), "r"(b)
AINO_DEFINE_COPY_TILE(2, "%3, %4", AINO_BOTH(c0, c1), int c0, int c1)
#define AINO_THREE(a, b, c) AINO_BOTH(a, b), "r"(c)
AINO_DEFINE_COPY_TILE(3, "%3, %4, %5", AINO_THREE(c0, c1, c2), int c0, int c1, int c2)
#define AINO_FOUR(a, b, c, d) AINO_THREE(a, b, c), "r"(d)
AINO_DEFINE_COPY_TILE(4, "%3, %4, %5, %6", AINO_FOUR(c0, c1, c2, c3), int c0, int c1, int c2, int c3)
#define AINO_FIVE(a, b, c, d, e) AINO_FOUR(a, b, c, d), "r"(e)
AINO_DEFINE_COPY_TILE(5, "%3, %4, %5, %6, %7", AINO_FIVE(c0, c1, c2, c3, c4), int c0, int c1, int c2, int c3, int c4)

#define AINO_COPY_TILE(rank, target, n, offset, map, signal, ...) \
    aino_copy_tile_##rank((target) + (offset), &(map), signal, __VA_ARGS__)

#define AINO_MORE_REGISTERS(count) asm volatile("setmaxnreg.inc.sync.aligned.u32 " #count ";\n")
#define AINO_FEWER_REGISTERS(count) asm volatile("setmaxnreg.dec.sync.aligned.u32 " #count ";\n")

#if !defined(__CUDACC_RTC__)

#include <cuda.h>
#include <string.h>

/* The map of a launch, made by the driver; words of zeros, of which a launch fails, where it refuses. */
static inline __attribute__((unused)) aino_map aino_make_map(void *base, int bytes, int lines, int rounded,
                                                              int rank, const int64_t *extents, const int64_t *strides)
{
    typedef CUresult encode(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                            const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    const CUtensorMapDataType integers[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_DATA_TYPE_UINT16,
                                         CU_TENSOR_MAP_DATA_TYPE_UINT32};
    const CUtensorMapDataType kind = rounded ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : integers[bytes / 2];
    const uintptr_t shift = (uintptr_t)base & 15;
    cuuint64_t sizes[5], steps[5];
    cuuint32_t box[5], ones[5];
    CUtensorMap made;
    aino_map result = {{0}};
    void *function = 0;
    cudaDriverEntryPointQueryResult found;
    for (int i = 0; i < rank; ++i) {
        sizes[i] = (cuuint64_t)extents[i];
        box[i] = i == 0 ? 128u / (unsigned)bytes : i == 1 ? (unsigned)lines : 1u;
        ones[i] = 1;
        if (i)
            steps[i - 1] = (cuuint64_t)(strides[i - 1] * bytes);
    }
    sizes[0] += shift / (unsigned)bytes;
#if CUDART_VERSION >= 12050
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found))
        return result;
#else
    if (cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found))
        return result;
#endif
    if (function && !((encode *)function)(&made, kind, (cuuint32_t)rank, (char *)base - shift, sizes, steps,
                                          box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                          CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
        memcpy(&result, &made, sizeof result);
    return result;
}

#endif

#endif
