#include "loaded.h"

#include <link.h>
#include <string.h>

#include "list.h"

/* The SONAME of a loaded object, or NULL. */
static const char *soname_of(const struct dl_phdr_info *info)
{
    const ElfW(Dyn) *entry = NULL;
    ElfW(Addr) strings = 0, name = 0;

    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry =
                (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_STRTAB)
            strings = entry->d_un.d_ptr;
        if (entry->d_tag == DT_SONAME)
            name = entry->d_un.d_val;
    }
    if (!strings || !name)
        return NULL;
    /* On most machines the linker has made this an address, but not in what
     * the kernel gives (vdso).
     */
    if (strings < info->dlpi_addr)
        strings += info->dlpi_addr;
    return (const char *)strings + name;
}

static int is_it(struct dl_phdr_info *info, size_t size, void *wanted)
{
    const char *soname = soname_of(info);

    (void)size;
    return soname && strcmp(soname, wanted) == 0;
}

int mi_loaded_has(const char *soname)
{
    return dl_iterate_phdr(is_it, (void *)soname);
}

static int is_from(struct dl_phdr_info *info, size_t size, void *wanted)
{
    (void)size;
    return info->dlpi_name && strcmp(info->dlpi_name, wanted) == 0;
}

int mi_loaded_from(const char *path)
{
    return dl_iterate_phdr(is_from, (void *)path);
}

static int take_gone(struct dl_phdr_info *info, size_t size, void *gone)
{
    (void)size;
    *(unsigned long long *)gone = info->dlpi_subs;
    return 1;
}

unsigned long long mi_loaded_gone(void)
{
    unsigned long long gone = 0;

    dl_iterate_phdr(take_gone, &gone);
    return gone;
}

static int append(struct dl_phdr_info *info, size_t size, void *list)
{
    const char *soname = soname_of(info);

    (void)size;
    return soname ? mi_list_append(list, soname) : 0;
}

char **mi_loaded_list(void)
{
    char **list = mi_list_new(0);

    if (list && dl_iterate_phdr(append, &list) != 0)
        mi_list_clear(&list);
    return list;
}
