// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title DocumentRegistry
/// @notice Records which document hash was registered for which case, by whom and when.
/// @dev A record belongs to a pair (document hash, case id), is written once and is never changed or removed. Its key
/// is `keccak256(abi.encode(documentHash, keccak256(bytes(caseId))))` and it takes one storage slot. Registering a
/// pair again keeps the first record and emits {DocumentSkipped} instead of reverting, so that a batch that was
/// partly registered before can be sent again as it is.
///
/// Only registrars may register. The owner appoints and dismisses them; ownership moves in two steps and cannot be
/// renounced. Anyone may read.
contract DocumentRegistry is Ownable2Step {
    /// @notice What is known about a registered pair; all fields are zero when the pair is not registered.
    /// @param registrar The account that registered the pair.
    /// @param blockNumber The number of the block in which the pair was registered.
    /// @param time The timestamp of that block, in seconds since the Unix epoch.
    struct Record {
        address registrar;
        uint48 blockNumber;
        uint48 time;
    }

    /// @notice The greatest length of a case id, in bytes.
    uint256 public constant MAX_CASE_ID_LENGTH = 64;

    /// @notice The block in which this contract was deployed; no event of this contract is in an earlier block.
    uint256 public immutable deployBlock;

    /// @dev The accounts that may register documents.
    mapping(address account => bool allowed) private _registrars;

    /// @dev The records by key.
    mapping(bytes32 key => Record record) private _records;

    /// @notice A pair was registered.
    /// @param documentHash The hash of the document.
    /// @param caseIdHash The Keccak-256 hash of the case id.
    /// @param registrar The account that registered the pair.
    /// @param caseId The case id.
    event DocumentRegistered(
        bytes32 indexed documentHash, bytes32 indexed caseIdHash, address indexed registrar, string caseId
    );

    /// @notice A pair was submitted that had been registered before; its record is unchanged.
    /// @param documentHash The hash of the document.
    /// @param caseIdHash The Keccak-256 hash of the case id.
    event DocumentSkipped(bytes32 indexed documentHash, bytes32 indexed caseIdHash);

    /// @notice An account became a registrar.
    /// @param registrar The account.
    event RegistrarAdded(address indexed registrar);

    /// @notice An account is no longer a registrar.
    /// @param registrar The account.
    event RegistrarRemoved(address indexed registrar);

    /// @notice The document hash is zero.
    error ZeroDocumentHash();

    /// @notice The case id is empty or longer than {MAX_CASE_ID_LENGTH}.
    /// @param length The length of the case id, in bytes.
    error InvalidCaseIdLength(uint256 length);

    /// @notice The two lists of a batch differ in length.
    /// @param documentHashes The number of document hashes.
    /// @param caseIds The number of case ids.
    error LengthMismatch(uint256 documentHashes, uint256 caseIds);

    /// @notice The batch has no documents.
    error EmptyBatch();

    /// @notice The caller is not a registrar.
    /// @param account The caller.
    error NotRegistrar(address account);

    /// @notice The zero address cannot be a registrar.
    error ZeroRegistrar();

    /// @notice Ownership cannot be renounced.
    error RenounceDisabled();

    /// @dev Reverts with {NotRegistrar} unless the caller is a registrar.
    modifier onlyRegistrar() {
        if (!_registrars[msg.sender]) revert NotRegistrar(msg.sender);
        _;
    }

    /// @notice Deploys the registry.
    /// @param initialOwner The first owner; must not be zero.
    /// @param initialRegistrars The first registrars; none of them may be zero.
    constructor(address initialOwner, address[] memory initialRegistrars) Ownable(initialOwner) {
        deployBlock = block.number;
        for (uint256 i = 0; i < initialRegistrars.length; ++i) {
            _addRegistrar(initialRegistrars[i]);
        }
    }

    /// @notice Registers one document.
    /// @dev Emits {DocumentRegistered}, or {DocumentSkipped} when the pair was registered before.
    /// @param documentHash The hash of the document; must not be zero.
    /// @param caseId The case id, 1 to {MAX_CASE_ID_LENGTH} bytes.
    /// @return registered Whether the pair is newly registered.
    function registerDocument(bytes32 documentHash, string calldata caseId)
        external
        onlyRegistrar
        returns (bool registered)
    {
        registered = _register(documentHash, caseId, _packedRecord()) != 0;
    }

    /// @notice Registers a batch of documents: `documentHashes[i]` for `caseIds[i]`. One invalid pair reverts it all.
    /// @dev Emits {DocumentRegistered} or {DocumentSkipped} for each pair, in order. A pair that is in the batch more
    /// than once is registered by its first occurrence and skipped at the others.
    /// @param documentHashes The hashes of the documents; none may be zero.
    /// @param caseIds The case ids, 1 to {MAX_CASE_ID_LENGTH} bytes each, as many as there are hashes.
    /// @return registered How many pairs are newly registered.
    function registerDocuments(bytes32[] calldata documentHashes, string[] calldata caseIds)
        external
        onlyRegistrar
        returns (uint256 registered)
    {
        uint256 count = documentHashes.length;
        if (count != caseIds.length) revert LengthMismatch(count, caseIds.length);
        if (count == 0) revert EmptyBatch();
        uint256 packed = _packedRecord();
        for (uint256 i = 0; i < count; ++i) {
            unchecked {
                registered += _register(documentHashes[i], caseIds[i], packed); // at most count
            }
        }
    }

    /// @notice Makes an account a registrar. Does nothing when it is one already.
    /// @param account The account; must not be zero.
    function addRegistrar(address account) external onlyOwner {
        _addRegistrar(account);
    }

    /// @notice Dismisses a registrar. Does nothing when the account is none. Its records stay.
    /// @param account The account; must not be zero.
    function removeRegistrar(address account) external onlyOwner {
        if (account == address(0)) revert ZeroRegistrar();
        if (_registrars[account]) {
            _registrars[account] = false;
            emit RegistrarRemoved(account);
        }
    }

    /// @notice Returns the record of a pair; all its fields are zero when the pair is not registered.
    /// @param documentHash The hash of the document.
    /// @param caseId The case id.
    /// @return The record.
    function recordOf(bytes32 documentHash, string calldata caseId) external view returns (Record memory) {
        return _records[_key(documentHash, caseId)];
    }

    /// @notice Returns the records of several pairs, in order: `documentHashes[i]` for `caseIds[i]`.
    /// @param documentHashes The hashes of the documents.
    /// @param caseIds The case ids, as many as there are hashes.
    /// @return records The records; all fields of a record are zero when its pair is not registered.
    function recordsOf(bytes32[] calldata documentHashes, string[] calldata caseIds)
        external
        view
        returns (Record[] memory records)
    {
        uint256 count = documentHashes.length;
        if (count != caseIds.length) revert LengthMismatch(count, caseIds.length);
        records = new Record[](count);
        for (uint256 i = 0; i < count; ++i) {
            records[i] = _records[_key(documentHashes[i], caseIds[i])];
        }
    }

    /// @notice Returns whether a pair is registered.
    /// @param documentHash The hash of the document.
    /// @param caseId The case id.
    /// @return Whether the pair is registered.
    function isRegistered(bytes32 documentHash, string calldata caseId) external view returns (bool) {
        return _records[_key(documentHash, caseId)].registrar != address(0);
    }

    /// @notice Returns whether an account may register documents.
    /// @param account The account.
    /// @return Whether the account is a registrar.
    function isRegistrar(address account) external view returns (bool) {
        return _registrars[account];
    }

    /// @notice Returns the version of this contract.
    /// @return The version.
    function version() external pure returns (string memory) {
        return "1.0.0";
    }

    /// @notice Always reverts: without an owner no registrar could be appointed or dismissed.
    function renounceOwnership() public pure override {
        revert RenounceDisabled();
    }

    /// @dev Makes `account` a registrar, unless it is one already.
    function _addRegistrar(address account) private {
        if (account == address(0)) revert ZeroRegistrar();
        if (!_registrars[account]) {
            _registrars[account] = true;
            emit RegistrarAdded(account);
        }
    }

    /// @dev Registers one pair with `packed` as its record. Returns 1, or 0 when the pair was registered before.
    ///
    /// A batch spends nearly all its gas here. The case id is therefore copied to memory once, both to be hashed and
    /// as the data of the event, in the free memory that is not allocated: every pair of a batch uses the same memory,
    /// and the cost of a pair does not depend on the size of its batch. A record is read and written as one word.
    function _register(bytes32 documentHash, string calldata caseId, uint256 packed) private returns (uint256) {
        if (documentHash == 0) revert ZeroDocumentHash();
        uint256 length = bytes(caseId).length;
        if (length == 0 || length > MAX_CASE_ID_LENGTH) revert InvalidCaseIdLength(length);

        // abi.encode(caseId): the offset of the string, its length, its bytes padded with zeros to whole words.
        uint256 data;
        bytes32 caseIdHash;
        assembly ("memory-safe") {
            data := mload(0x40)
            mstore(data, 0x20)
            mstore(add(data, 0x20), length)
            // Clears the word after the end of the bytes, hence the padding, whatever the memory held before.
            mstore(add(add(data, 0x40), length), 0)
            calldatacopy(add(data, 0x40), caseId.offset, length)
            caseIdHash := keccak256(add(data, 0x40), length)
        }

        Record storage record = _records[_key(documentHash, caseIdHash)];
        uint256 existing;
        assembly ("memory-safe") {
            existing := sload(record.slot)
        }
        if (existing != 0) {
            emit DocumentSkipped(documentHash, caseIdHash);
            return 0;
        }

        bytes32 topic = DocumentRegistered.selector;
        assembly ("memory-safe") {
            sstore(record.slot, packed)
            // emit DocumentRegistered(documentHash, caseIdHash, msg.sender, caseId)
            log4(data, add(0x40, and(add(length, 0x1f), not(0x1f))), topic, documentHash, caseIdHash, caller())
        }
        return 1;
    }

    /// @dev Returns the record of a pair registered now by the caller, laid out as {Record} is in storage: the first
    /// field in the lowest bits. The number and the timestamp of a block stay below 2^48 for millions of years.
    function _packedRecord() private view returns (uint256) {
        return uint256(uint160(msg.sender)) | (uint256(uint48(block.number)) << 160)
            | (uint256(uint48(block.timestamp)) << 208);
    }

    /// @dev Returns the key of a pair: `keccak256(abi.encode(documentHash, keccak256(bytes(caseId))))`.
    function _key(bytes32 documentHash, string calldata caseId) private pure returns (bytes32) {
        bytes32 caseIdHash;
        assembly ("memory-safe") {
            // Hashes in free memory that is not allocated, as {_register} does.
            let data := mload(0x40)
            calldatacopy(data, caseId.offset, caseId.length)
            caseIdHash := keccak256(data, caseId.length)
        }
        return _key(documentHash, caseIdHash);
    }

    /// @dev Returns `keccak256(abi.encode(documentHash, caseIdHash))`.
    function _key(bytes32 documentHash, bytes32 caseIdHash) private pure returns (bytes32 key) {
        assembly ("memory-safe") {
            // The scratch space takes both words.
            mstore(0x00, documentHash)
            mstore(0x20, caseIdHash)
            key := keccak256(0x00, 0x40)
        }
    }
}
