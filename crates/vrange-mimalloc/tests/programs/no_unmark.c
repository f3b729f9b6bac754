/* A control: the hook by which tcmalloc uses a span again, without what it is for. Preloaded before the library that has it. */
void _Z21TCMalloc_SystemCommitPvm(void *start, unsigned long bytes);

void _Z21TCMalloc_SystemCommitPvm(void *start, unsigned long bytes)
{
	(void)start;
	(void)bytes;
}
