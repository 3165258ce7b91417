/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * A fixed set of map contents: every kind of map, of histogram, and every decoder whose answer does not depend on the machine.
 * One call of a system call that no kernel has, number FILL, puts it there, whoever loaded the object. See recorded.txt.
 */
#include "maps.bpf.h"

#define FILL 20261130
#define MAP(kind, name, key_type, entries)                                                                                     \
    struct {                                                                                                                   \
        __uint(type, BPF_MAP_TYPE_##kind);                                                                                     \
        __uint(max_entries, entries);                                                                                          \
        __type(key, key_type);                                                                                                 \
        __type(value, u64);                                                                                                    \
    } name SEC(".maps")
#define PUT(map, n, ...)                                                                                                       \
    do {                                                                                                                       \
        typeof(*map.key) key = __VA_ARGS__;                                                                                    \
        u64 value = n;                                                                                                         \
        bpf_map_update_elem(&map, &key, &value, BPF_ANY);                                                                      \
    } while (0)

struct numbers {
    u8 byte, pad;
    u16 word;
    u32 number;
    u64 large;
    u8 raw[5], pads[3];
} __attribute__((packed));

struct calls {
    u32 error, call;
};

struct text {
    char text[16];
};

struct internet {
    u8 four[4], six[16];
};

struct machine {
    u64 symbol, stack[3];
    u64 cgroup;
    u32 interface, device;
};

struct pci {
    u32 vendor, device, class, subclass;
};

struct slot {
    u32 who, bucket;
};

MAP(ARRAY, fixed_plain_total, u32, 1);
MAP(PERCPU_ARRAY, fixed_summed_total, u32, 1);
MAP(PERCPU_ARRAY, fixed_cpu_total, u32, 1);
MAP(PERCPU_HASH, fixed_who_cpu_total, u32, 8);
MAP(ARRAY, fixed_array_total, u32, 4);
MAP(HASH, fixed_numbers_total, struct numbers, 8);
MAP(LRU_HASH, fixed_calls_total, struct calls, 64);
MAP(HASH, fixed_texts_total, struct text, 16);
MAP(HASH, fixed_devices_total, struct text, 16);
MAP(HASH, fixed_names_total, struct text, 16);
MAP(LRU_PERCPU_HASH, fixed_internet_total, struct internet, 64);
MAP(HASH, fixed_machine_total, struct machine, 8);
MAP(HASH, fixed_pci_total, struct pci, 8);
MAP(PERCPU_ARRAY, fixed_exp2_seconds, u32, 13);
MAP(HASH, fixed_exp2zero_bytes, struct slot, 64);
MAP(PERCPU_HASH, fixed_linear_seconds, struct slot, 64);
MAP(HASH, fixed_keys_seconds, u64, 16);
MAP(HASH, fixed_empty_seconds, u32, 16);

SEC("raw_tp/sys_enter")
int fixed_fill(struct bpf_raw_tracepoint_args *ctx)
{
    if (ctx->args[1] != FILL)
        return 0;

    PUT(fixed_plain_total, (1ULL << 53) - 1, 0);
    PUT(fixed_summed_total, 1234567890123ULL, 0);
    PUT(fixed_cpu_total, 21, 0);
    PUT(fixed_who_cpu_total, 22, 1);
    PUT(fixed_who_cpu_total, 23, 4000000000U);
    PUT(fixed_array_total, 5, 0);
    PUT(fixed_array_total, 7, 2);
    PUT(fixed_numbers_total, 31, {.byte = 255, .word = 65535, .number = 1, .large = ~0ULL, .raw = {0xde, 0xad, 0xbe, 0xef, 0}});
    PUT(fixed_numbers_total, 0, {.byte = 1, .word = 256, .number = 4000000000U, .large = 1ULL << 63});
    /* Bytes that are padding make two keys of one label set. */
    PUT(fixed_numbers_total, 40, {.byte = 7, .pad = 1, .large = 9, .pads = {1, 2, 3}});
    PUT(fixed_numbers_total, 2, {.byte = 7, .pad = 2, .large = 9});
    PUT(fixed_calls_total, 41, {.error = 2, .call = 0});
    PUT(fixed_calls_total, 42, {.error = 11, .call = 332});
    PUT(fixed_calls_total, 43, {.error = 35, .call = 257});
    PUT(fixed_calls_total, 44, {.error = 95, .call = 449});
    PUT(fixed_calls_total, 45, {.error = 9999, .call = 9999});
    PUT(fixed_texts_total, 51, {"plain"});
    PUT(fixed_texts_total, 52, {"sixteen bytes .."});
    PUT(fixed_texts_total, 53, {"a\"b\\c\nd{e}=\t"});
    PUT(fixed_texts_total, 54, {""});
    PUT(fixed_texts_total, 55, {"\xc3\xa9t\xc3\xa9 \xe2\x82\xac"});
    PUT(fixed_texts_total, 56, {"over\0hidden"});
    PUT(fixed_devices_total, 61, {"eth0"});
    PUT(fixed_devices_total, 62, {"eth1"});
    PUT(fixed_devices_total, 63, {"veth12ab"});
    PUT(fixed_devices_total, 64, {"br-storage"});
    PUT(fixed_devices_total, 65, {"lo"}); /* no regexp matches: left out */
    PUT(fixed_names_total, 71, {"\3www\7example"});
    PUT(fixed_names_total, 72, {"\1a\2bc\3def\0"});
    PUT(fixed_internet_total, 81, {.four = {127, 0, 0, 1}, .six = {[15] = 1}});
    PUT(fixed_internet_total, 82, {.four = {0}, .six = {0}});
    PUT(fixed_internet_total, 83, {.four = {239, 1, 2, 3}, .six = {0x20, 0x01, 0x0d, 0xb8, [8] = 0, 1, 0, 0, 0, 0, 0, 0x42}});
    PUT(fixed_internet_total, 84, {.four = {10, 0, 255, 1}, .six = {[10] = 0xff, 0xff, 192, 0, 2, 33}});
    PUT(fixed_machine_total, 91,
        {.symbol = 1, .stack = {1, 2}, .cgroup = 1ULL << 60, .interface = 1, .device = (4095 << 8) | 7});
    PUT(fixed_machine_total, 92, {.symbol = 4096, .cgroup = (1ULL << 60) + 1, .interface = 999999, .device = 4095 << 8});
    PUT(fixed_pci_total, 101, {.vendor = 0x8086, .device = 0x80861521, .class = 2, .subclass = 0x0200});
    PUT(fixed_pci_total, 102, {.vendor = 0x15b3, .device = 0x15b31017, .class = 2, .subclass = 0x0207});
    PUT(fixed_pci_total, 103, {.vendor = 0xfffe, .device = 0xfffe0001, .class = 0xee, .subclass = 0x02ee});
    PUT(fixed_pci_total, 104, {.vendor = 0x10, .device = 0xfffe0002, .class = 0xed, .subclass = 0xeeee});

    for (u32 i = 0; i <= 11; i++) /* 11 is the sum; 0 and 1 lie below bucket_min */
        PUT(fixed_exp2_seconds, i < 11 ? i * i : 987654321, i);
    for (u32 i = 0; i <= 8; i += 2) /* 9 would be the sum: absent for client 1 */
        PUT(fixed_exp2zero_bytes, 100 + i, {.who = 1, .bucket = i});
    PUT(fixed_exp2zero_bytes, 3, {.who = 2, .bucket = 0});
    PUT(fixed_exp2zero_bytes, 777, {.who = 2, .bucket = 9});
    for (u32 i = 0; i <= 6; i++) /* buckets are 1 ... 5 */
        PUT(fixed_linear_seconds, 1 + i, {.who = 3, .bucket = i});
    PUT(fixed_keys_seconds, 11, 100);
    PUT(fixed_keys_seconds, 12, 250);
    PUT(fixed_keys_seconds, 13, 1000000);
    PUT(fixed_keys_seconds, 14, 251);     /* no bucket's */
    PUT(fixed_keys_seconds, 15, 1000001); /* the sum */
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
