# Embeds web/ and openapi.json: one generated assembler file that includes the bytes, and the table over them (api/assets.h).
ASSET_FILES := openapi.json $(sort $(shell find web -type f ! -name '.*' ! -name '*.md' 2>/dev/null))
ASSETS_S := $(O)/api/assets_data.S
LIB_OBJ += $(ASSETS_S).o

$(ASSETS_S): build.d/embed.sh $(ASSET_FILES) $(wildcard web web/*/)
	@mkdir -p $(@D)
	$(Q)build.d/embed.sh $(ASSET_FILES) > $@.tmp && mv $@.tmp $@

$(ASSETS_S).o: $(ASSETS_S)
	@echo "  AS   $<"
	$(Q)$(CC) -c $< -o $@
