/* aino_windows.h: what aino_runtime.h wants of POSIX threads, by kernel32 alone. */
#ifndef AINO_WINDOWS_H
#define AINO_WINDOWS_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <malloc.h>
#include <windows.h>
#undef IN /* markers of parameters there, macros of a model's main here */
#undef OUT

typedef HANDLE pthread_t;
typedef SRWLOCK pthread_mutex_t;
typedef CONDITION_VARIABLE pthread_cond_t;
typedef SIZE_T pthread_attr_t; /* bytes of the stack */
typedef int sigset_t;          /* there are no signals */

#define SIG_SETMASK 0
#define sigfillset(set) (*(set) = 0)
#define pthread_sigmask(how, set, before) ((void)(set), (void)(before))
#define getpid() GetCurrentProcessId()
#define sched_yield() SwitchToThread()

static inline int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
{
    (void)attributes;
    InitializeSRWLock(mutex);
    return 0;
}

static inline int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    AcquireSRWLockExclusive(mutex);
    return 0;
}

static inline int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    ReleaseSRWLockExclusive(mutex);
    return 0;
}

static inline int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

static inline int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
{
    (void)attributes;
    InitializeConditionVariable(condition);
    return 0;
}

static inline int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    return SleepConditionVariableSRW(condition, mutex, INFINITE, 0) ? 0 : 1;
}

static inline int pthread_cond_broadcast(pthread_cond_t *condition)
{
    WakeAllConditionVariable(condition);
    return 0;
}

static inline int pthread_cond_destroy(pthread_cond_t *condition)
{
    (void)condition;
    return 0;
}

static inline int pthread_attr_init(pthread_attr_t *attributes)
{
    *attributes = 0;
    return 0;
}

static inline int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes)
{
    *attributes = bytes;
    return 0;
}

static inline int pthread_attr_destroy(pthread_attr_t *attributes)
{
    (void)attributes;
    return 0;
}

/* What a new thread calls; it frees its own description. */
typedef struct {
    void *(*main)(void *);
    void *argument;
} aino_thread_start;

static DWORD WINAPI aino_thread_main(void *description)
{
    aino_thread_start start = *(aino_thread_start *)description;
    HeapFree(GetProcessHeap(), 0, description);
    start.main(start.argument);
    return 0;
}

static inline int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *),
                                 void *argument)
{
    aino_thread_start *start = HeapAlloc(GetProcessHeap(), 0, sizeof *start);
    if (!start)
        return 1;
    start->main = main;
    start->argument = argument;
    *thread = CreateThread(NULL, *attributes, aino_thread_main, start, 0, NULL);
    if (*thread)
        return 0;
    HeapFree(GetProcessHeap(), 0, start);
    return 1;
}

static inline int pthread_join(pthread_t thread, void **result)
{
    (void)result;
    WaitForSingleObject(thread, INFINITE);
    return CloseHandle(thread) ? 0 : 1;
}

#endif
