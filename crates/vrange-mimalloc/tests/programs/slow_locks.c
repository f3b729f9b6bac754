/* A library to preload: mutexes take their time in all threads but the first, so that a fork finds those inside of whatever they lock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	static int (*volatile next)(pthread_mutex_t *);
	if (!next)
		next = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
	if (gettid() != getpid()) {
		const struct timespec pause = { 0, 1000000 };
		nanosleep(&pause, NULL);
	}
	return next(mutex);
}
