exports.seed = async (knex) => {
  await knex("users").insert({ email: "seed@example.com", login: "seed" }).onConflict("email").merge({ login: "again" });
  await knex.transaction(async (trx) => {
    const user = await trx("users").where({ email: "seed@example.com" }).forUpdate().first();
    const [{ id }] = await trx("articles").insert({ user_id: user.id, body: "seeded" }).returning("id");
    await trx("articles").where({ id }).update({ state: "shown", words: ["s"] });
    await trx("articles").where("user_id", "<", user.id).whereRaw("user_id % 2 = 0").del();
  });
  console.log(await knex("articles").select("state").count().groupBy("state").orderBy("state"));
};
