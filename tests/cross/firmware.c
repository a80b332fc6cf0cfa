/* A firmware for an emulated Cortex-M4 board: runs one model once and prints its outputs as words.
 *
 * Output goes through semihosting, which the emulator answers; nothing of a C library is there.
 */
#include <stdint.h>

#include "case.h" /* the model's header, its name, inputs and outputs */

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

static int32_t semihosting(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print_word(uint32_t word)
{
    char text[10];
    for (int i = 0; i < 8; ++i)
        text[i] = "0123456789abcdef"[word >> (28 - 4 * i) & 15];
    text[8] = '\n';
    text[9] = 0;
    semihosting(4, text); /* SYS_WRITE0 */
}

static void leave(int status)
{
    const uint32_t why[2] = {0x20026, (uint32_t)status}; /* ADP_Stopped_ApplicationExit */
    semihosting(0x20, why);                              /* SYS_EXIT_EXTENDED */
    for (;;) {
    }
}

static void reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 15u << 20; /* CPACR: the floating-point unit */
    __asm__ volatile("dsb\n\tisb");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    CASE_CONTEXT *context;
    int status = CASE_CREATE(CASE_WEIGHTS, 1, &context);
    for (int turn = 0; turn < CASE_RUNS && !status; ++turn)
        status = CASE_RUN(context, case_inputs, case_outputs);
    for (int i = 0; i < CASE_OUTPUTS && !status; ++i)
        for (uint32_t word = 0; word < case_words[i]; ++word)
            print_word(((const uint32_t *)case_outputs[i])[word]);
    leave(status);
}

static void fault(void)
{
    leave(255);
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
