"""CPython's own mmap module, which passes any number on to libc: a program that knows nothing of the library."""
import mmap
import sys

MADV_VOLATILE, PAGE = 5, 4096
pages = int(sys.argv[1]) * 256
memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(pages):
    memory[page * PAGE] = 1 + page % 255
memory.madvise(MADV_VOLATILE)
if len(sys.argv) > 2:
    # Needs memory itself.
    needed = mmap.mmap(-1, int(sys.argv[2]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(needed), PAGE):
        needed[at] = 1
    needed.close()
else:
    # MADV_PAGEOUT: the lever.
    memory.madvise(21)
lost = sum(memory[page * PAGE] == 0 for page in range(pages))
wrong = sum(memory[page * PAGE] not in (0, 1 + page % 255) for page in range(pages))
print(f"lost {lost} of {pages}, wrong {wrong}")
sys.exit(0 if lost > 0 and wrong == 0 else 1)
