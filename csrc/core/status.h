// What can be wrong with input. Names are those of the corrupted-if lists in BITSTREAM.md; they reach Python as exception classes.
#pragma once

namespace ans::core {

#define ANS_STATUS_LIST(X)                                                                                              \
  X(Ok) X(StreamTruncated) X(UnknownModel) X(BodySizeMismatch) X(EmptyStreamModel) X(ChunkSizeOutOfRange)               \
  X(TableTruncated) X(BadExpGolomb) X(AlphabetTooLarge) X(FrequencySumTooLarge) X(DegenerateTable) X(SymbolOutOfRange)  \
  X(NonzeroPadding) X(DirectoryTruncated) X(TailOutOfRange) X(ChunkWordsOutOfRange) X(PayloadTruncated)                 \
  X(PayloadTrailing) X(StateOutOfRange) X(WordsExhausted) X(WordsLeft) X(TailEmpty) X(TailStateMismatch)                \
  X(MatrixShapeOutOfRange) X(ParameterOutOfRange) X(ReferenceCycle) X(ReferenceMissing)                                   \
  X(SymbolNotInTable) X(NoTrellisPath) X(SymbolsChanged) X(InvalidArgument) X(NotFinite)

enum class [[nodiscard]] Status : int {
#define X(name) k##name,
  ANS_STATUS_LIST(X)
#undef X
};

inline const char* status_name(Status status) {
  switch (status) {
#define X(name) case Status::k##name: return #name;
    ANS_STATUS_LIST(X)
#undef X
  }
  return "Unknown";
}

}  // namespace ans::core
