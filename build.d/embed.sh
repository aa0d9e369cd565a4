#!/usr/bin/env bash
# embed.sh FILE...: assembler for the table `assets_table` (api/assets.h); names lose their leading "web/".
set -euo pipefail
printf '\t.section .rodata\n'
i=0
for f in "$@"; do
    printf '\t.balign 8\ndata%d:\n\t.incbin "%s"\nend%d:\n\t.byte 0\nname%d:\n\t.asciz "%s"\n' \
        $i "$f" $i $i "${f#web/}"
    i=$((i + 1))
done
printf '\t.section .data.rel.ro,"aw"\n\t.balign 8\n\t.globl assets_table\n\t.hidden assets_table\n\t.type assets_table, @object\nassets_table:\n'
for ((k = 0; k < i; k++)); do
    printf '\t.quad name%d, data%d, end%d\n' $k $k $k
done
printf '\t.quad 0, 0, 0\n\t.size assets_table, . - assets_table\n\t.section .note.GNU-stack,"",%%progbits\n'
