/* aino_cuda_group.h: products of four warps as instructions of sm_90a, their factors in shared memory.
 *
 * A line of a factor has 128 bytes, whose chunks of 16 are swapped as the instruction's mode of 128 bytes has
 * them; an instruction takes 32 bytes of every line.  aino_cuda_emulation.h has the same operations for
 * machines without a device.
 */
#ifndef AINO_CUDA_GROUP_H
#define AINO_CUDA_GROUP_H

/* A factor's place: its address, the distance of its lines' groups, chunks swapped.  A group is eight lines;
 * where lines are terms (`turned`), those behind the first 64 rows or columns lie `step` bytes further on. */
static __device__ inline uint64_t aino_factor(const void *place, int step, int turned)
{
    return (uint64_t)(aino_shared_address(place) & 0x3ffffu) >> 4 | (uint64_t)(turned ? step >> 4 : 1) << 16 |
           (uint64_t)64 << 32 | (uint64_t)1 << 62;
}

/* How far an instruction's terms, 32 bytes of a line or 16 turned lines, are from the factor's place. */
static __device__ inline uint64_t aino_terms(int part, int step, int turned)
{
    return (uint64_t)(turned ? 128 * part : part / 4 * (step >> 4) + part % 4 * 2);
}

#define AINO_TOTALS_8(letter, n)                                                               \
    "+" letter(d[n]), "+" letter(d[n + 1]), "+" letter(d[n + 2]), "+" letter(d[n + 3]),        \
        "+" letter(d[n + 4]), "+" letter(d[n + 5]), "+" letter(d[n + 6]), "+" letter(d[n + 7])
#define AINO_TOTALS_32(letter, n)                                                              \
    AINO_TOTALS_8(letter, n), AINO_TOTALS_8(letter, n + 8), AINO_TOTALS_8(letter, n + 16),     \
        AINO_TOTALS_8(letter, n + 24)
#define AINO_TOTALS_64(letter, n) AINO_TOTALS_32(letter, n), AINO_TOTALS_32(letter, n + 32)
#define AINO_TOTALS_128(letter, n) AINO_TOTALS_64(letter, n), AINO_TOTALS_64(letter, n + 64)
#define AINO_REGISTERS_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define AINO_REGISTERS_64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define AINO_REGISTERS_128 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/* d += A B for the terms of some lines, with `count` totals a thread; %first and so on come behind these.  A
 * first factor is shared, or `held`: four fragments an instruction.  The fence and the wait name the totals
 * too, so that nothing else that touches them is moved in between. */
#define AINO_WGMMA_BEGIN(count, letter) \
    asm volatile("wgmma.fence.sync.aligned;\n" : AINO_TOTALS_##count(letter, 0)::"memory")
#define AINO_WGMMA_END(count, letter)                                                          \
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");                           \
    asm volatile("wgmma.wait_group.sync.aligned 0;\n" : AINO_TOTALS_##count(letter, 0)::"memory")
#define AINO_WGMMA_TEXT(columns, count, first, second, use, terms, types, rest)                \
    "{\n.reg .pred used;\nsetp.ne.b32 used, " use ", 0;\n"                                     \
    "wgmma.mma_async.sync.aligned.m64n" #columns terms types " {" AINO_REGISTERS_##count "}, " first ", " second \
    ", used" rest ";\n}\n"
#define AINO_DEFINE_WGMMA(name, columns, count, n0, n1, n2, n3, n4, n5, n6, terms, types, rest, type, letter) \
    template <int lines, int x_turned, int w_turned>                                           \
    static __device__ inline void aino_wgmma_##name##_##columns(type(&d)[count], const void *x, int x_step, \
                                                                const void *w, int w_step)     \
    {                                                                                          \
        uint64_t a = aino_factor(x, x_step, x_turned), b = aino_factor(w, w_step, w_turned);   \
        AINO_WGMMA_BEGIN(count, letter);                                                       \
        _Pragma("unroll") for (int part = 0; part < 4 * lines; ++part)                         \
            asm volatile(AINO_WGMMA_TEXT(columns, count, n0, n1, n2, terms, types, rest(n3, n4)) \
                         : AINO_TOTALS_##count(letter, 0)                                      \
                         : "l"(a + aino_terms(part, x_step, x_turned)),                        \
                           "l"(b + aino_terms(part, w_step, w_turned)), "r"(1), "n"(x_turned), "n"(w_turned)); \
        AINO_WGMMA_END(count, letter);                                                         \
    }                                                                                          \
    template <int lines, int w_turned>                                                         \
    static __device__ inline void aino_held_wgmma_##name##_##columns(                          \
        type(&d)[count], const uint32_t(&held)[16 * lines], const void *w, int w_step)         \
    {                                                                                          \
        uint64_t b = aino_factor(w, w_step, w_turned);                                         \
        AINO_WGMMA_BEGIN(count, letter);                                                       \
        _Pragma("unroll") for (int part = 0; part < 4 * lines; ++part)                         \
            asm volatile(AINO_WGMMA_TEXT(columns, count, "{" n0 ", " n1 ", " n2 ", " n3 "}", n4, n5, terms, types, \
                                         rest##_HELD(n6))                                      \
                         : AINO_TOTALS_##count(letter, 0)                                      \
                         : "r"(held[4 * part]), "r"(held[4 * part + 1]), "r"(held[4 * part + 2]), \
                           "r"(held[4 * part + 3]), "l"(b + aino_terms(part, w_step, w_turned)), "r"(1), \
                           "n"(w_turned));                                                     \
        AINO_WGMMA_END(count, letter);                                                         \
    }
/* Behind the factors: their signs, and which of them are turned. */
#define AINO_OF_FLOATS(x, w) ", 1, 1, " x ", " w
#define AINO_OF_FLOATS_HELD(w) ", 1, 1, " w
#define AINO_OF_SHORT_FLOATS(x, w) ", 1, 1"
#define AINO_OF_SHORT_FLOATS_HELD(w) ", 1, 1"
#define AINO_OF_BYTES(x, w) ""
#define AINO_OF_BYTES_HELD(w) ""
#define AINO_DEFINE_WGMMAS(name, terms, types, rest, type, letter)                             \
    AINO_DEFINE_WGMMA(name, 64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38", terms, types, rest, type, \
                      letter)                                                                  \
    AINO_DEFINE_WGMMA(name, 128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70", terms, types, rest, type, \
                      letter)                                                                  \
    AINO_DEFINE_WGMMA(name, 256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134", terms, types, rest, \
                      type, letter)
AINO_DEFINE_WGMMAS(bf16, "k16", ".f32.bf16.bf16", AINO_OF_FLOATS, float, "f")
AINO_DEFINE_WGMMAS(f16, "k16", ".f32.f16.f16", AINO_OF_FLOATS, float, "f")
AINO_DEFINE_WGMMAS(tf32, "k8", ".f32.tf32.tf32", AINO_OF_SHORT_FLOATS, float, "f")
AINO_DEFINE_WGMMAS(s8_s8, "k32", ".s32.s8.s8", AINO_OF_BYTES, int32_t, "r")
AINO_DEFINE_WGMMAS(s8_u8, "k32", ".s32.s8.u8", AINO_OF_BYTES, int32_t, "r")
AINO_DEFINE_WGMMAS(u8_s8, "k32", ".s32.u8.s8", AINO_OF_BYTES, int32_t, "r")
AINO_DEFINE_WGMMAS(u8_u8, "k32", ".s32.u8.u8", AINO_OF_BYTES, int32_t, "r")

#define AINO_WGMMA(kind, columns, lines, totals, x, x_step, x_turned, w, w_step, w_turned)     \
    aino_wgmma_##kind##_##columns<lines, x_turned, w_turned>(totals, x, x_step, w, w_step)
#define AINO_HELD_WGMMA(kind, columns, lines, totals, held, w, w_step, w_turned)               \
    aino_held_wgmma_##kind##_##columns<lines, w_turned>(totals, held, w, w_step)
#define AINO_GROUP_READS(number, offset, count) ((void)0)
#define AINO_PUBLISH() asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory")

#endif
